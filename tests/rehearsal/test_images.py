"""Our own images, really built and really published; one build takes one to two minutes, all else seconds."""

import json
import socket
import stat
import subprocess
import tarfile
from collections.abc import Generator
from pathlib import Path

import pytest

from rehearsal.images.building import build_images, current_images
from rehearsal.images.layout import BuiltImage, blob
from rehearsal.images.publishing import publish
from rehearsal.images.recipes import SCRIPT
from rehearsal.tools.cache import Cache
from rehearsal.tools.catalogue import ENVOY
from rehearsal.tools.errors import ToolError
from runtime.ops.progress import Progress
from tests.rehearsal.conftest import eventually

pytestmark = pytest.mark.rehearsal


@pytest.fixture(scope="module", name="cache")
def fixture_cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache of its own for the images, with the user's tools."""
    cache = Cache(tmp_path_factory.mktemp("cache"))
    cache.tools.symlink_to(Cache.locate().tools)
    return cache


@pytest.fixture(scope="module", name="images")
def fixture_images(cache: Cache) -> dict[str, BuiltImage]:
    return {image.name: image for image in build_images(cache, Progress())}


@pytest.fixture(scope="module", name="roots")
def fixture_roots(images: dict[str, BuiltImage], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each image's files as a container has them."""
    roots: dict[str, Path] = {}
    for name, image in images.items():
        roots[name] = tmp_path_factory.mktemp(name)
        roots[name].chmod(0o755)
        manifest = json.loads(blob(image.layout, image.digest).read_bytes())
        for layer in manifest["layers"]:
            with tarfile.open(blob(image.layout, layer["digest"])) as tar:
                tar.extractall(roots[name], filter="fully_trusted")
    return roots


def run_in(root: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program with an image's files alone, as the user of nearly all of them."""
    changed = ["chroot", "--userspec=65532:65532", root, *command]
    variables = {"PATH": "/usr/sbin:/usr/bin", **environment}
    return subprocess.run(changed, capture_output=True, text=True, check=False, env=variables)


def test_the_images_are_whole_and_current(cache: Cache, images: dict[str, BuiltImage]) -> None:
    assert set(images) == {
        "spillway-base",
        "spillway-gateway",
        "spillway-serving-check",
        "spillway-burst-controller",
        "spillway-sagemaker-gateway",
        "spillway-evaluation",
    }
    assert current_images(cache) == tuple(images.values())
    assert images["spillway-gateway"].version == ENVOY
    base = images["spillway-base"]
    assert all(base.blobs[2] in image.blobs for image in images.values()), "one base layer for all"
    assert not list(cache.images.glob(".making-*"))


def test_they_run_as_a_user_without_rights_and_say_what_they_are(images: dict[str, BuiltImage]) -> None:
    for image in images.values():
        # SageMaker mounts what an evaluation writes to for root.
        root = image.name == "spillway-evaluation"
        assert image.config["User"] == ("0:0" if root else "65532:65532")
        labels = image.config["Labels"]
        assert labels["org.opencontainers.image.title"]
        assert labels["org.opencontainers.image.version"] == image.version
        assert "io.buildah.version" not in labels, "another buildah would give another digest"


def test_no_file_gives_rights_and_there_is_no_shell_and_no_package_manager(roots: dict[str, Path]) -> None:
    forbidden = {"sh", "bash", "dash", "apt", "apt-get", "dpkg", "perl", "su", "mount", "passwd", "login"}
    for root in roots.values():
        found: set[str] = set()
        for path in root.rglob("*"):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                assert not mode & (stat.S_ISUID | stat.S_ISGID), path
                assert not mode & stat.S_IWOTH, path
                if mode & stat.S_IXUSR:
                    found.add(path.name)
        assert not found & forbidden
        assert not (root / "var/lib/apt").exists()
        assert not (root / "etc/resolv.conf").exists(), "nothing of the machine that built it"
        assert not (root / "etc/hostname").exists()
        assert (root / "var/lib/dpkg/status.d/libc6").read_text().startswith("Package: libc6\n")
        assert (root / "etc/ssl/certs/ca-certificates.crt").stat().st_size > 100_000


def test_envoy_runs_on_the_base_alone(roots: dict[str, Path]) -> None:
    done = run_in(roots["spillway-gateway"], "/usr/local/bin/envoy", "--version")
    assert f"/{ENVOY}/" in done.stdout, done.stderr


def test_the_check_has_all_that_python_can_import(roots: dict[str, Path]) -> None:
    root = roots["spillway-serving-check"]
    # Every extension module of the standard library needs its libraries from the package list.
    program = (
        "import importlib, pathlib, sysconfig\n"
        "folder = pathlib.Path(sysconfig.get_path('stdlib'), 'lib-dynload')\n"
        "names = sorted(path.name.partition('.')[0] for path in folder.glob('*.so'))\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names))\n"
    )
    imported = run_in(root, "/usr/bin/python3", "-c", program)
    assert int(imported.stdout or 0) > 20, imported.stderr
    done = run_in(root, "/usr/bin/python3", "/check/serving_check.py")
    assert "KeyError: " in done.stderr, "it starts, and asks for its first setting"
    assert (root / "check" / SCRIPT.name).read_bytes() == SCRIPT.read_bytes()


def test_the_burst_controller_has_all_that_it_imports(roots: dict[str, Path]) -> None:
    root = roots["spillway-burst-controller"]
    path = "/opt/spillway:/opt/spillway/libraries"
    program = (
        f"import sys; sys.path[:0] = {path.split(':')!r}; import runtime.burst.__main__ as main; main.main()"
    )
    done = run_in(root, "/usr/bin/python3", "-c", program)
    assert "the following arguments are required: command" in done.stderr
    zone = "from zoneinfo import ZoneInfo; print(ZoneInfo('Europe/Berlin'))"
    assert run_in(root, "/usr/bin/python3", "-c", zone).stdout == "Europe/Berlin\n"


LIBRARIES = {"PYTHONPATH": "/opt/spillway:/opt/spillway/libraries"}


def test_the_sagemaker_gateway_starts_and_masks_with_its_images_files_alone(roots: dict[str, Path]) -> None:
    root = roots["spillway-sagemaker-gateway"]
    done = run_in(root, "/usr/bin/python3", "-m", "runtime.sagemaker_gateway", "/none.json", **LIBRARIES)
    assert done.stderr == "cannot read /none.json: No such file or directory\n"
    program = (
        "from runtime.sagemaker_gateway.capture.config import ENTITIES\n"
        "from runtime.sagemaker_gateway.capture.masking import Masker\n"
        "print(Masker(ENTITIES, ['DE']).text('anna@example.com, 030 901820, 4111 1111 1111 1111'))\n"
    )
    masked = run_in(root, "/usr/bin/python3", "-c", program, **LIBRARIES)
    assert masked.stdout == "<EMAIL_ADDRESS>, <PHONE_NUMBER>, <CREDIT_CARD>\n", masked.stderr


def test_the_evaluation_has_all_that_its_metrics_import(roots: dict[str, Path]) -> None:
    root = roots["spillway-evaluation"]
    started = run_in(root, "/usr/bin/python3", "-m", "runtime.ops", "evaluate", "--help", **LIBRARIES)
    assert "usage: " in started.stdout, started.stderr
    program = (
        "import boto3, openai, rouge_score.rouge_scorer, sacrebleu.metrics, scipy.stats, sklearn.metrics\n"
        "print(sacrebleu.metrics.BLEU().corpus_score(['a b c d'], [['a b c d']]).score)\n"
    )
    assert run_in(root, "/usr/bin/python3", "-c", program, **LIBRARIES).stdout.startswith("100")


@pytest.fixture(name="registry")
def fixture_registry(tmp_path: Path) -> Generator[str]:
    """Debian's registry, unpacked and not installed: as a package it would start as a service."""
    for command in (["apt-get", "update"], ["apt-get", "download", "docker-registry"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    [package] = tmp_path.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path / "registry"], check=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    storage = json.dumps({"filesystem": {"rootdirectory": str(tmp_path / "data")}})
    (tmp_path / "config.yml").write_text(f"version: 0.1\nstorage: {storage}\nhttp: {{addr: '{address}'}}\n")
    command = [tmp_path / "registry/usr/bin/docker-registry", "serve", tmp_path / "config.yml"]
    host, _, port = address.partition(":")

    def answers() -> bool | None:
        try:
            socket.create_connection((host, int(port)), 1.0).close()
        except OSError:
            return None
        return True

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually("the registry", answers)
            yield address
        finally:
            process.terminate()


def test_a_registry_has_what_was_built_under_the_same_digests(
    registry: str, cache: Cache, images: dict[str, BuiltImage], tmp_path: Path
) -> None:
    publish(list(images.values()), f"{registry}/llm", cache, Progress())

    for image in images.values():
        pulled = tmp_path / image.name
        source = f"docker://{image.by_digest(f'{registry}/llm')}"
        command = ["skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", source, f"dir:{pulled}"]
        subprocess.run(command, check=True, capture_output=True)
        assert (pulled / "manifest.json").read_bytes() == blob(image.layout, image.digest).read_bytes()


def test_a_registry_that_is_not_there_is_one_message(cache: Cache, images: dict[str, BuiltImage]) -> None:
    with pytest.raises(ToolError, match=r"publication of spillway-base to 127\.0\.0\.1:1 failed"):
        publish([images["spillway-base"]], "127.0.0.1:1", cache, Progress())
