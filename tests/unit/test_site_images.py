"""Images made on the spot, the runtime wrapper, the tiny model and the simulated nodes."""

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rehearsal.site import host_program_runtime
from rehearsal.site.host_program_runtime import MARKER, bind_host_programs, bundle_of
from rehearsal.site.images import RAY_IMAGE, Image, ImageFile, site_images
from rehearsal.site.layout import SiteLayout
from rehearsal.site.simulated_nodes import HARDWARE, node_names, render_nodes
from rehearsal.site.tiny_model import byte_characters, model_files
from runtime.accelerators import ACCELERATORS


def image(**changes: object) -> Image:
    settings: dict[str, object] = {
        "reference": "site.local/x:1",
        "files": {"opt/x/run": ImageFile(b"program", 0o755)},
        "user": 1000,
        "user_name": "x",
        "home": "/home/x",
    }
    return Image(**{**settings, **changes})  # pyright: ignore[reportArgumentType]


def archive_of(one: Image, folder: Path) -> dict[str, bytes]:
    path = folder / "image.tar"
    one.write(path)
    with tarfile.open(path) as tar:
        return {name: file.read() for name in tar.getnames() if (file := tar.extractfile(name))}


def test_every_blob_is_named_by_its_digest_and_referenced(tmp_path: Path) -> None:
    files = archive_of(image(), tmp_path)
    blobs = {name: data for name, data in files.items() if name.startswith("blobs/")}
    for name, data in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    [named] = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blobs[f"blobs/sha256/{named['digest'].removeprefix('sha256:')}"])
    for descriptor in (manifest["config"], *manifest["layers"]):
        data = blobs[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"]
        assert len(data) == descriptor["size"]
    assert named["annotations"]["io.containerd.image.name"] == "site.local/x:1"


class Tools:
    """Tools that nothing is read of."""

    python = Path("/tools/serving/bin/python")

    def path(self, name: str) -> Path:
        return Path("/tools") / name

    def folder(self, name: str) -> Path:
        return Path("/tools") / name


def test_the_engine_of_a_site_needs_no_compiler() -> None:
    [engine] = [one for one in site_images(Tools()) if one.reference == RAY_IMAGE]
    assert engine.environment["TORCH_COMPILE_DISABLE"] == "1"


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    assert archive_of(image(), tmp_path) == archive_of(image(), tmp_path)


def test_only_a_change_gives_another_key(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"1")
    copied = image(files={"opt/x/run": ImageFile(program, 0o755)})
    first = copied.key()
    assert copied.key() == first
    program.write_bytes(b"22")
    assert copied.key() != first
    keys = {
        image().key(),
        image(host_programs=True).key(),
        image(environment={"A": "b"}).key(),
        image(files={"opt/x/run": ImageFile(b"other", 0o755)}).key(),
        image(files={"opt/x/run": ImageFile(b"program", 0o644)}).key(),
    }
    assert len(keys) == 5


def test_the_user_owns_its_home_and_anyone_may_use_tmp(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    image()._write_layer(path)  # pyright: ignore[reportPrivateUsage]
    with tarfile.open(path) as tar:
        assert tar.getmember("home/x").uid == 1000
        assert tar.getmember("tmp").mode == 0o1777
        assert tar.getmember("opt/x/run").mode == 0o755


@pytest.fixture(name="bundle")
def fixture_bundle(tmp_path: Path) -> Path:
    (tmp_path / "rootfs").mkdir()
    mounts = [{"destination": "/proc"}, {"destination": "/tmp"}, {"destination": "/etc/ssl"}]
    config = {"root": {"path": "rootfs", "readonly": True}, "mounts": mounts}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_a_bundle_without_the_marker_is_left_alone(bundle: Path) -> None:
    before = (bundle / "config.json").read_bytes()
    assert not bind_host_programs(bundle, ["/usr"])
    assert (bundle / "config.json").read_bytes() == before


def test_a_marked_bundle_gets_the_programs_read_only(bundle: Path, tmp_path: Path) -> None:
    (bundle / "rootfs" / MARKER).touch()
    inside_tmp = str(tmp_path)
    assert inside_tmp.startswith("/tmp/")
    assert bind_host_programs(bundle, ["/usr", "/etc/ssl", "/not/there", inside_tmp])
    config = json.loads((bundle / "config.json").read_text())
    destinations = [mount["destination"] for mount in config["mounts"]]
    # The pod's own /etc/ssl stays the pod's; what lies inside of its /tmp comes on top of that.
    assert destinations == ["/usr", "/proc", "/tmp", "/etc/ssl", inside_tmp]
    bound = [mount for mount in config["mounts"] if mount.get("type") == "bind"]
    assert all("ro" in mount["options"] for mount in bound)
    assert config["root"]["readonly"] is True


@pytest.mark.parametrize(
    ("arguments", "bundle"),
    [
        (["--root", "/r", "create", "--bundle", "/b", "id"], Path("/b")),
        (["create", "--bundle=/b", "id"], Path("/b")),
        (["--root", "/r", "start", "id"], None),
        (["delete", "--force", "id"], None),
    ],
)
def test_only_create_is_looked_into(arguments: list[str], bundle: Path | None) -> None:
    assert bundle_of(arguments) == bundle


def test_the_wrapper_hands_the_call_on_unchanged(bundle: Path, tmp_path: Path) -> None:
    (bundle / "rootfs" / MARKER).touch()
    bindings = tmp_path / "bindings.json"
    bindings.write_text(json.dumps({"runc": "/bin/echo", "folders": ["/usr"]}))
    arguments = ["--root", "/r", "create", "--bundle", str(bundle), "id"]
    command = [sys.executable, "-I", "-S", host_program_runtime.__file__, str(bindings), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == arguments
    assert "/usr" in (bundle / "config.json").read_text()


def test_every_byte_has_a_character_of_its_own() -> None:
    characters = byte_characters()
    assert len(set(characters)) == 256
    assert characters[ord("A")] == "A"
    assert characters[ord(" ")] == "Ġ"
    assert not any(character.isspace() for character in characters)


def test_the_model_is_the_same_every_time_and_its_parts_agree() -> None:
    files = model_files()
    assert files == model_files()
    config, tokenizer = json.loads(files["config.json"]), json.loads(files["tokenizer.json"])
    assert config["vocab_size"] == len(tokenizer["model"]["vocab"])
    settings = json.loads(files["tokenizer_config.json"])
    vocabulary = tokenizer["model"]["vocab"]
    assert vocabulary[settings["eos_token"]] == config["eos_token_id"]
    assert vocabulary[settings["bos_token"]] == config["bos_token_id"]


def test_simulated_nodes_carry_what_the_vendors_discovery_writes(tmp_path: Path) -> None:
    nodes = {
        node["metadata"]["name"]: (node, status)
        for node, status in render_nodes(SiteLayout("probe", tmp_path))
    }
    assert list(nodes) == node_names(SiteLayout("probe", tmp_path))
    for name in ("probe-gpu-h100-0", "probe-gpu-h100-1"):
        node, status = nodes[name]
        labels = node["metadata"]["labels"]
        assert labels["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
        assert labels["nvidia.com/gpu.memory"] == "81559"
        assert status["status"]["allocatable"]["nvidia.com/gpu"] == labels["nvidia.com/gpu.count"] == "8"
        assert node["spec"]["taints"] == [
            {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
        ]
    for node, _ in nodes.values():
        assert any("simulated" in key for key in node["metadata"]["annotations"])


@pytest.mark.parametrize("name", ["nvidia-h100", "amd-mi300x", "intel-max-1550", "intel-gaudi3"])
def test_an_accelerator_finds_its_simulated_node(name: str, tmp_path: Path) -> None:
    profile = ACCELERATORS[name]
    found = [
        status["status"]["allocatable"][str(profile.kubernetes_resource)]
        for node, status in render_nodes(SiteLayout("probe", tmp_path))
        if profile.node_labels.items() <= node["metadata"]["labels"].items()
        and {taint["key"] for taint in node["spec"]["taints"]} <= set(profile.taints)
    ]
    assert found


def test_nothing_lands_on_a_simulated_node_by_chance(tmp_path: Path) -> None:
    for node, _ in render_nodes(SiteLayout("probe", tmp_path)):
        assert [taint["effect"] for taint in node["spec"]["taints"]] == ["NoSchedule"]


def test_labels_are_valid_and_say_where_they_come_from() -> None:
    for hardware in HARDWARE:
        assert hardware.source
        assert all(isinstance(value, str) and len(value) <= 63 for value in hardware.labels.values())
