"""Our own images: what goes into them, how they are named, and what their messages say."""

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from rehearsal.images import building, debian, recipes
from rehearsal.images.__main__ import main, sagemaker_lines, stack_lines, table
from rehearsal.images.building import build_arguments, build_images, current_images, pack_folders
from rehearsal.images.debian import (
    Archive,
    archive_of,
    copy_plainly,
    pack,
    render_sources,
    written_archive,
)
from rehearsal.images.layout import BuiltImage, layout_folder, read_layout
from rehearsal.images.publishing import check_place, is_loopback
from rehearsal.images.recipes import (
    SAGEMAKER_GATEWAY,
    USER,
    Origin,
    PackageList,
    declared_volumes,
    find_origin,
    package_lists,
    public_address,
    read_package_list,
)
from rehearsal.site.images import PublishedImage, published_images
from rehearsal.tools.cache import Cache
from rehearsal.tools.errors import ToolError
from runtime.gateway import GatewayConfig, ModelRoute, Upstream
from runtime.ops.progress import Progress
from runtime.sagemaker_gateway import AdapterConfig, SageMakerModel
from runtime.sagemaker_gateway.task import GatewayTask
from stacks.settings import parse, parse_sagemaker
from tests.support.stack_files import platform_object

NAMES = ("spillway-base", "spillway-gateway", "spillway-serving-check")


def store(layout: Path, content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    path = layout / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def make_layout(layout: Path, names: tuple[str, ...] = NAMES) -> tuple[BuiltImage, ...]:
    """Writes images of one shared layer and one of their own, as buildah does."""
    shared = store(layout, b"shared layer")
    manifests: list[dict[str, object]] = []
    for name in names:
        labels = {"org.opencontainers.image.version": "1.2.3"}
        config = store(layout, json.dumps({"config": {"User": "65532:65532", "Labels": labels}}).encode())
        layers = [shared, store(layout, f"layer of {name}".encode())]
        manifest = store(layout, json.dumps({"config": config, "layers": layers, "name": name}).encode())
        annotations = {"org.opencontainers.image.ref.name": name}
        media_type = "application/vnd.oci.image.manifest.v1+json"
        manifests.append({"mediaType": media_type, **manifest, "annotations": annotations})
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    return read_layout(layout)


# What was built


def test_nothing_built_is_no_error(tmp_path: Path) -> None:
    assert read_layout(tmp_path) == ()


def test_an_image_is_known_by_its_digest_and_by_what_a_pull_transfers(tmp_path: Path) -> None:
    base, gateway, *_ = make_layout(tmp_path)
    assert (base.name, gateway.name) == NAMES[:2]
    assert gateway.version == "1.2.3"
    assert len({base.digest, gateway.digest}) == 2
    config = (tmp_path / "blobs" / gateway.blobs[1].replace(":", "/")).stat().st_size
    assert gateway.size == config + len(b"shared layer") + len(b"layer of spillway-gateway")
    expected = f"registry.example.com/llm/spillway-gateway@{gateway.digest}"
    assert gateway.by_digest("registry.example.com/llm") == expected


def test_a_damaged_layout_is_one_message_with_the_command_that_mends_it(tmp_path: Path) -> None:
    image = make_layout(tmp_path)[1]
    (tmp_path / "blobs" / image.blobs[-1].replace(":", "/")).write_bytes(b"half")
    with pytest.raises(ToolError, match="build them again: make images"):
        read_layout(tmp_path)


def test_the_site_gets_an_image_alone_and_under_its_digest(tmp_path: Path) -> None:
    gateway = PublishedImage(make_layout(tmp_path / "layout")[1])
    assert gateway.reference == f"site.local/spillway-gateway@{gateway.key()}"
    gateway.write(tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        blobs = {name.removeprefix("blobs/sha256/") for name in tar.getnames() if "blobs" in name}
        index = tar.extractfile("index.json")
        assert index is not None
        [named] = json.load(index)["manifests"]
        for blob in blobs:
            content = tar.extractfile(f"blobs/sha256/{blob}")
            assert content is not None
            assert hashlib.sha256(content.read()).hexdigest() == blob
    assert named["annotations"] == {"io.containerd.image.name": gateway.reference}
    assert blobs == {digest.removeprefix("sha256:") for digest in gateway.built.blobs}


def test_the_site_takes_what_is_in_the_cache_and_mostly_that_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPILLWAY_CACHE", str(tmp_path))
    assert published_images() == []
    make_layout(layout_folder(Cache(tmp_path)))
    assert [image.built.name for image in published_images()] == list(NAMES)
    make_layout(layout_folder(Cache(tmp_path)), (*NAMES, "spillway-evaluation", "spillway-sagemaker-gateway"))
    assert [image.built.name for image in published_images()] == list(NAMES), "what a cluster runs"


def test_images_from_other_recipes_are_not_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    make_layout(layout_folder(cache))
    assert current_images(cache) == (), "nobody says what they are from"
    (layout_folder(cache) / "recipes.sha256").write_text(recipes.recipe_key())
    assert len(current_images(cache)) == 3
    monkeypatch.setattr(building, "recipe_key", lambda: "another")
    assert current_images(cache) == ()


def test_cleaning_the_cache_removes_the_images(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    make_layout(layout_folder(cache))
    (cache.images / ".making-1").mkdir()
    assert cache.clean() > 0
    assert not cache.root.exists()


# What they are made of


def test_a_package_list_has_packages_folders_and_comments() -> None:
    wanted = read_package_list("# why\nlibc6\n\n/etc/ssl/certs\nzlib1g\n")
    assert wanted == PackageList(packages=("libc6", "zlib1g"), folders=("etc/ssl/certs",))


def lines_of(recipe: str, instruction: str) -> list[str]:
    lines = (recipes.RECIPES / recipe / "Containerfile").read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{instruction} ")]


def test_no_image_lists_a_package_twice_or_one_that_what_it_stands_on_has() -> None:
    listed = package_lists()
    for recipe in recipes.RECIPE_NAMES:
        names: list[str] = []
        below: str | None = recipe
        while below:
            names += listed[below].packages if below in listed else ()
            below = lines_of(below, "FROM")[0].removeprefix("localhost/spillway-").replace("scratch", "")
        assert len(names) == len(set(names)), recipe
        assert not {"dpkg", "apt", "bash", "dash", "perl-base", "coreutils"} & set(names)


def test_every_image_stands_on_the_base_which_has_a_numeric_user() -> None:
    for name in recipes.RECIPE_NAMES:
        [origin], users = lines_of(name, "FROM"), lines_of(name, "USER")
        if name == recipes.BASE:
            assert (origin, users) == ("scratch", ["65532:65532"])
        elif name in recipes.PROGRAMS:
            # Whose Python they take; what that stands on is asserted too.
            assert origin == "localhost/spillway-serving-check"
            assert users == (["0:0"] if name == recipes.EVALUATION else [])
        else:
            assert (origin, users) == ("localhost/spillway-base", [])


def test_every_image_says_its_name_and_its_licences() -> None:
    for name in recipes.RECIPE_NAMES:
        text = (recipes.RECIPES / name / "Containerfile").read_text()
        assert "org.opencontainers.image.title=" in text
        assert "org.opencontainers.image.licenses=" in text


def test_the_gateways_image_has_the_folders_of_its_tasks_volumes_and_gives_them_to_its_user(
    tmp_path: Path,
) -> None:
    adapter = AdapterConfig(region="us-east-1", models=(SageMakerModel(name="m", endpoint="llm-m"),))
    upstream = Upstream(host="127.0.0.1", port=8081)
    task = GatewayTask(
        gateway=GatewayConfig(models=(ModelRoute(name="m", upstream=upstream),)),
        adapter=adapter,
        gateway_image="envoy",
        adapter_image="adapter",
        region="us-east-1",
        logs={},
    )
    volumes = declared_volumes(SAGEMAKER_GATEWAY)
    assert set(volumes) == set(task.volumes.values())
    pack_folders(volumes, tmp_path / "volumes.tar", 0)
    with tarfile.open(tmp_path / "volumes.tar") as tar:
        packed = {f"/{one.name}": (one.isdir(), one.uid, one.gid) for one in tar}
    assert packed == dict.fromkeys(volumes, (True, USER, USER))


def test_every_library_of_an_image_is_pinned_with_its_hashes() -> None:
    for name in recipes.PROGRAMS:
        requirements = (recipes.RECIPES / name / "requirements.txt").read_text()
        libraries = [block for block in requirements.split("\n") if block and not block.startswith(" ")]
        assert libraries
        for library in libraries:
            assert re.fullmatch(r"[a-z0-9-]+==[^ ]+ \\", library), library


def test_a_changed_recipe_or_script_has_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    (tmp_path / "images").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1"\n')
    monkeypatch.setattr(recipes, "PROJECT", tmp_path)
    monkeypatch.setattr(recipes, "RECIPES", tmp_path / "images")
    monkeypatch.setattr(recipes, "SCRIPT", script)
    monkeypatch.setattr(recipes, "__file__", str(tmp_path / "recipes.py"))
    keys: set[str] = set()
    script.write_text("one")
    keys.add(recipes.recipe_key())
    script.write_text("two")
    keys.add(recipes.recipe_key())
    (tmp_path / "images" / "packages").write_text("libc6\n")
    keys.add(recipes.recipe_key())
    assert len(keys) == 3
    assert recipes.recipe_key() in keys


def test_labels_leave_out_what_is_not_known() -> None:
    assert Origin("", 0, "").labels("13.2") == {"org.opencontainers.image.version": "13.2"}
    labels = Origin("abc", 0, "https://git.example.com/x").labels("13.2")
    assert labels["org.opencontainers.image.revision"] == "abc"
    assert labels["org.opencontainers.image.source"] == "https://git.example.com/x"


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://someone:token@git.example.com:8443/x/y.git", "https://git.example.com:8443/x/y.git"),
        ("git@git.example.com:x/y.git", ""),
        ("/srv/git/x", ""),
        ("", ""),
    ],
)
def test_no_token_of_a_remote_gets_into_an_image(remote: str, address: str) -> None:
    assert public_address(remote) == address


def test_the_revision_is_the_last_commit_of_what_goes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "PROJECT", tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert find_origin() == Origin("", 0, "")

    def git(*arguments: str, time: int = 0) -> str:
        settings = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
        dates = {"GIT_COMMITTER_DATE": f"{time} +0000", "GIT_AUTHOR_DATE": f"{time} +0000"}
        command = ["git", "-C", tmp_path, *settings, *arguments]
        return subprocess.check_output(command, text=True, env={**os.environ, **dates}).strip()

    git("init", "--quiet")
    recipe = tmp_path / "images" / "x"
    recipe.parent.mkdir()
    for number, file in enumerate((recipe, tmp_path / "other"), 1):
        file.write_text("1")
        git("add", "--all")
        git("commit", "--quiet", "--message", str(number), time=1_700_000_000 + number)
    first = git("rev-parse", "HEAD~1")
    assert find_origin() == Origin(first, 1_700_000_001, "")
    recipe.write_text("2")
    assert find_origin().revision == f"{first}-dirty"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "42")
    assert find_origin().epoch == 42


def test_a_build_says_nothing_of_when_and_by_what_it_was_made() -> None:
    arguments = build_arguments(Origin("abc", 42, ""), "1.40.0")
    assert {"--timestamp=42", "--identity-label=false", "--pull=never"} <= set(arguments)
    assert "--label=org.opencontainers.image.version=1.40.0" in arguments


def test_only_root_builds_and_hears_so_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ToolError, match="only root can"):
        build_images(Cache(tmp_path), Progress(io.StringIO()))
    assert not list(tmp_path.iterdir())


# Debian's files

TARGETS = """\
Debian-Security|http://mirror.example.com/sec/
Debian|http://mirror.example.com/debian/
Debian|http://second.example.com/debian/
Other|https://packages.example.com/apt/
"""


@pytest.mark.parametrize(
    ("targets", "named", "found"),
    [
        (TARGETS, None, Archive("http://mirror.example.com/debian", "http://mirror.example.com/sec")),
        (TARGETS, "http://x.example.com/d/", Archive("http://x.example.com/d", "http://x.example.com/d-security")),
        ("Debian|file:/srv/debian/\n", None, Archive("file:/srv/debian", "file:/srv/debian-security")),
        ("Debian|cdrom://disc/\nUbuntu|http://u.example.com/\n", None, None),
        ("", None, None),
    ],
)  # fmt: skip
def test_packages_come_from_where_the_machine_gets_its_own(
    targets: str, named: str | None, found: Archive | None
) -> None:
    assert archive_of(targets, named) == found


def test_security_updates_are_among_the_sources() -> None:
    archive = written_archive("deb http://d.example.com/debian trixie main\n")
    assert render_sources(archive).splitlines() == [
        "deb http://d.example.com/debian trixie main",
        "deb http://d.example.com/debian trixie-updates main",
        "deb http://d.example.com/debian-security trixie-security main",
    ]
    with pytest.raises(ToolError, match="make images DEBIAN_MIRROR=ADDRESS"):
        written_archive("# none\n")


def make_system(root: Path) -> Path:
    """A Debian of two packages, of which one has a program that gives more rights."""
    files = {
        "usr/lib/libx.so": "library",
        "usr/bin/become": "program",
        "usr/share/doc/x/copyright": "licence",
        "usr/share/doc/x/changelog.gz": "history",
        "usr/share/man/man1/x.1.gz": "manual",
        "usr/bin/other": "of a package that is not wanted",
        "etc/certs/made.pem": "made by a script",
        "var/lib/dpkg/status": "Package: x\nVersion: 1\n\nPackage: other\nVersion: 2\n",
        "var/lib/dpkg/info/x:amd64.list": "\n".join(
            [
                *("/.", "/usr", "/usr/bin", "/usr/bin/become", "/usr/lib", "/usr/lib/libx.so"),
                *("/usr/share", "/usr/share/doc", "/usr/share/doc/x", "/usr/share/doc/x/copyright"),
                *("/usr/share/doc/x/changelog.gz", "/usr/share/man", "/usr/share/man/man1/x.1.gz"),
            ]
        ),
        "var/lib/dpkg/info/other.list": "/.\n/usr\n/usr/bin\n/usr/bin/other\n",
    }
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    (root / "usr/bin/become").chmod(0o4755)
    return root


WANTED = PackageList(packages=("x",), folders=("etc/certs",))


def test_an_image_gets_the_files_of_its_packages_their_licences_and_nothing_else(tmp_path: Path) -> None:
    pack(make_system(tmp_path / "root"), WANTED, tmp_path / "packages.tar", epoch=42)
    with tarfile.open(tmp_path / "packages.tar") as tar:
        members = {member.name: member for member in tar.getmembers()}
        listed = tar.extractfile("var/lib/dpkg/status.d/x")
        assert listed is not None
        assert listed.read() == b"Package: x\nVersion: 1\n"
    assert {name for name, member in members.items() if member.isfile()} == {
        "etc/certs/made.pem",
        "usr/bin/become",
        "usr/lib/libx.so",
        "usr/share/doc/x/copyright",
        "var/lib/dpkg/status.d/x",
    }
    assert members["usr/bin/become"].mode == 0o755, "no program of an image gives more rights"
    assert {member.mtime for member in members.values()} == {42}


def test_two_packings_at_different_times_are_the_same_bytes(tmp_path: Path) -> None:
    archives = [tmp_path / "1.tar", tmp_path / "2.tar"]
    for number, archive in enumerate(archives, 1):
        root = make_system(tmp_path / str(number) / "root")
        os.utime(root / "usr/lib/libx.so", (number, number))
        pack(root, WANTED, archive, epoch=42)
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_a_package_that_is_not_there_names_the_file_to_mend(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"no package y installed; mend images/\*/packages"):
        pack(make_system(tmp_path / "root"), PackageList(("y",), ()), tmp_path / "packages.tar", 0)


def test_a_file_below_a_link_is_refused_because_its_folder_would_replace_the_link(tmp_path: Path) -> None:
    root = make_system(tmp_path / "root")
    (root / "lib").symlink_to("usr/lib")
    (root / "var/lib/dpkg/info/x:amd64.list").write_text("/lib/libx.so\n")
    with pytest.raises(ToolError, match=r"/lib/libx\.so of Debian's packages lies below a link"):
        pack(root, WANTED, tmp_path / "packages.tar", 0)


def test_permissions_do_not_depend_on_the_umask_of_a_clone(tmp_path: Path) -> None:
    source = tmp_path / "recipe"
    (source / "etc").mkdir(parents=True)
    (source / "etc" / "passwd").write_text("root")
    (source / "etc" / "passwd").chmod(0o600)
    (source / "envoy").write_bytes(b"\x7fELF")
    copy_plainly(source, tmp_path / "copy")
    assert (tmp_path / "copy/etc/passwd").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "copy/envoy").stat().st_mode & 0o777 == 0o755


def test_apts_lists_are_fetched_where_they_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, updates = ["", TARGETS], list[object]()

    def answer(command: object) -> str:
        return answers.pop(0)

    def run(command: object, **_: object) -> None:
        updates.append(command)

    monkeypatch.delenv("DEBIAN_MIRROR", raising=False)
    monkeypatch.setattr(debian, "output_of", answer)
    monkeypatch.setattr(debian, "run_logged", run)
    monkeypatch.setattr("shutil.which", str)
    found = debian.find_archive(tmp_path / "log")
    assert found == Archive("http://mirror.example.com/debian", "http://mirror.example.com/sec")
    assert len(updates) == 1


# Publishing


@pytest.mark.parametrize(
    "place",
    ["registry.example.com", "registry.example.com/llm", "localhost:5000/a/b_c", "127.0.0.1:5000/x"],
)
def test_a_registry_with_or_without_a_path_is_taken(place: str) -> None:
    assert check_place(place) == place


@pytest.mark.parametrize(
    "place",
    ["", "https://r.example.com/llm", "llm/images", "R.example.com", "r.example.com/x:1", "r.example.com/"],
)
def test_anything_else_is_one_message_before_anything_is_built(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPILLWAY_CACHE", str(tmp_path))
    assert main(["push", place]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: PUSH = {place}: must be REGISTRY or REGISTRY/PATH")
    assert "without https:// and without a tag" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "plain"),
    [
        ("localhost:5000/x", True),
        ("127.0.0.1/x", True),
        ("127.0.0.1.example.com/x", False),
        ("localhost.example.com", False),
        ("registry.example.com:5000/x", False),
    ],
)
def test_only_a_registry_on_this_machine_may_do_without_tls(place: str, plain: bool) -> None:
    assert is_loopback(place) is plain


def test_the_printed_lines_are_settings_of_a_stack(tmp_path: Path) -> None:
    images = make_layout(tmp_path, (*NAMES, "spillway-burst-controller"))
    lines = yaml.safe_load(stack_lines(images, "registry.example.com/llm"))
    settings = platform_object("local")
    settings["gateway"].update(lines.pop("gateway"))
    parsed = parse({**settings, **lines})
    named = {image.name: image.by_digest("registry.example.com/llm") for image in images}
    assert parsed.gateway.image == named["spillway-gateway"]
    assert parsed.check_image == named["spillway-serving-check"]
    assert parsed.controller_image == named["spillway-burst-controller"]


def test_the_printed_lines_of_a_sagemaker_stack_name_the_adapter_by_digest(tmp_path: Path) -> None:
    images = make_layout(tmp_path, ("spillway-evaluation", "spillway-sagemaker-gateway"))
    lines = sagemaker_lines(images, "registry.example.com/llm")
    settings = platform_object("sagemaker")
    settings["gateway"].update(yaml.safe_load(lines.splitlines()[1]))
    parsed = parse_sagemaker(settings)
    assert parsed.gateway is not None
    evaluation, adapter = (image.by_digest("registry.example.com/llm") for image in images)
    assert parsed.gateway.adapter_image == adapter
    assert lines.splitlines()[-1].endswith(evaluation)


def test_the_table_says_which_images_are_as_before(tmp_path: Path) -> None:
    base, gateway, check = make_layout(tmp_path)
    lines = table([base, gateway, check], {gateway.digest}).splitlines()
    assert lines[0].split() == ["IMAGE", "VERSION", "SIZE", "DIGEST"]
    assert lines[1].endswith(base.digest)
    assert lines[2].endswith(f"{gateway.digest} (as before)")
