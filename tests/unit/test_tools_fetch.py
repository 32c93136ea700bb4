"""Downloads against a local server that cuts, lies and refuses."""

import hashlib
import io
import re
import socket
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rehearsal.tools.catalogue import Artifact
from rehearsal.tools.errors import ToolError
from rehearsal.tools.fetch import NEVER, Fetcher, Hosts, NoDownload, Stopped, checksum_in
from runtime.ops.progress import Step

CONTENT = bytes(range(256)) * 4096


@dataclass
class Publisher:
    """A server of files; `cuts` are the body lengths after which it hangs up, one per request."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    cuts: list[int] = field(default_factory=list[int])
    ranges: list[str | None] = field(default_factory=list[str | None])
    requests: list[str] = field(default_factory=list[str])
    honours_ranges: bool = True
    head_status: int = 200
    url: str = ""

    def publish(self, name: str, content: bytes, checksum: str | None = None) -> Artifact:
        self.files[f"/{name}"] = content
        listed = checksum or hashlib.sha256(content).hexdigest()
        self.files["/SHA256SUMS"] = f"{'0' * 64}  other\n{listed}  {name}\n".encode()
        return Artifact(f"{self.url}/{name}", f"{self.url}/SHA256SUMS", {"program": ""})


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr("rehearsal.tools.fetch.RETRY_S", 0.01)
    state = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            state.requests.append(f"HEAD {self.path}")
            self.send_response(state.head_status)
            self.end_headers()

        def do_GET(self) -> None:
            state.requests.append(f"GET {self.path}")
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            asked = self.headers.get("Range")
            if self.path != "/SHA256SUMS":
                state.ranges.append(asked)
            match = re.fullmatch(r"bytes=(\d+)-", asked or "")
            start = int(match[1]) if match and state.honours_ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            body = content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = state.cuts.pop(0) if state.cuts and self.path != "/SHA256SUMS" else len(body)
            self.wfile.write(body[:cut])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield state
        server.shutdown()


class Stopping(Step):
    """A step during which the user presses Ctrl-C, as soon as something has arrived."""

    def __init__(self, fetcher: Fetcher) -> None:
        super().__init__("etcd")
        self._fetcher = fetcher

    def update(self, detail: str) -> None:
        self._fetcher.stop.set()


@pytest.fixture
def fetcher(tmp_path: Path) -> Fetcher:
    return Fetcher(tmp_path / "downloads")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "tool"
    folder.mkdir()
    return folder


def test_a_cut_download_goes_on_where_it_stopped(
    publisher: Publisher, fetcher: Fetcher, target: Path
) -> None:
    artifact = publisher.publish("etcd", CONTENT)
    publisher.cuts = [300_000, 300_000, 300_000]
    step = Step("etcd")

    detail = fetcher.install(artifact, target, step)

    assert (target / "program").read_bytes() == CONTENT
    assert publisher.ranges == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert hashlib.sha256(CONTENT).hexdigest() in detail
    assert step.detail == "downloaded 1 of 1 MB"
    assert (target / "program").stat().st_mode & 0o111
    assert list(fetcher.folder.iterdir()) == []


def test_a_stopped_download_is_resumed_by_the_next_run(
    publisher: Publisher, fetcher: Fetcher, target: Path
) -> None:
    artifact = publisher.publish("etcd", CONTENT)
    with pytest.raises(Stopped):
        fetcher.install(artifact, target, Stopping(fetcher))

    Fetcher(fetcher.folder).install(artifact, target, Step("etcd"))

    assert (target / "program").read_bytes() == CONTENT
    assert publisher.ranges[0] is None
    assert re.fullmatch(r"bytes=[1-9]\d*-", publisher.ranges[1] or "")


def test_a_server_that_ignores_ranges_is_read_from_the_start_again(
    publisher: Publisher, fetcher: Fetcher, target: Path
) -> None:
    artifact = publisher.publish("etcd", CONTENT)
    publisher.cuts = [300_000]
    publisher.honours_ranges = False

    fetcher.install(artifact, target, Step("etcd"))

    assert (target / "program").read_bytes() == CONTENT


def test_a_complete_part_file_is_verified_and_not_downloaded_again(
    publisher: Publisher, fetcher: Fetcher, target: Path
) -> None:
    artifact = publisher.publish("etcd", CONTENT)
    with pytest.raises(Stopped):
        fetcher.install(artifact, target, Stopping(fetcher))
    next(fetcher.folder.glob("*.part")).write_bytes(CONTENT)

    Fetcher(fetcher.folder).install(artifact, target, Step("etcd"))

    assert (target / "program").read_bytes() == CONTENT
    assert publisher.ranges[1:] == [f"bytes={len(CONTENT)}-"]


def test_a_part_file_of_something_else_is_replaced_by_a_fresh_download(
    publisher: Publisher, fetcher: Fetcher, target: Path
) -> None:
    artifact = publisher.publish("etcd", CONTENT)
    with pytest.raises(Stopped):
        fetcher.install(artifact, target, Stopping(fetcher))
    next(fetcher.folder.glob("*.part")).write_bytes(b"x" * 1000)

    Fetcher(fetcher.folder).install(artifact, target, Step("etcd"))

    assert (target / "program").read_bytes() == CONTENT
    assert publisher.ranges[1:] == ["bytes=1000-", None]


def test_a_download_with_another_checksum_is_refused_and_removed(
    publisher: Publisher, fetcher: Fetcher, target: Path
) -> None:
    artifact = publisher.publish("etcd", CONTENT, checksum="a" * 64)

    with pytest.raises(ToolError) as raised:
        fetcher.install(artifact, target, Step("etcd"))

    message = str(raised.value)
    assert message.startswith(f"refused {publisher.url}/etcd: its checksum is ")
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert f"its publisher says {'a' * 64} in {publisher.url}/SHA256SUMS" in message
    assert list(fetcher.folder.iterdir()) == []
    assert list(target.iterdir()) == []


def test_a_host_that_breaks_off_at_once_is_given_up(
    publisher: Publisher, fetcher: Fetcher, target: Path
) -> None:
    artifact = publisher.publish("etcd", CONTENT)
    publisher.cuts = [300_000, 0, 0, 0, 0]

    with pytest.raises(NoDownload, match="/etcd broke off: the connection ended early"):
        fetcher.install(artifact, target, Step("etcd"))

    assert publisher.ranges == [None, "bytes=300000-", "bytes=300000-"]


def test_programs_are_taken_out_of_an_archive(publisher: Publisher, fetcher: Fetcher, target: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("etcd-v1/etcd")
        member.size = len(CONTENT)
        tar.addfile(member, io.BytesIO(CONTENT))
    published = publisher.publish("etcd.tar.gz", packed.getvalue())

    fetcher.install(
        Artifact(published.url, published.checksums, {"etcd": "etcd-v1/etcd"}), target, Step("etcd")
    )

    assert (target / "etcd").read_bytes() == CONTENT


def test_an_archive_without_the_program_is_no_download(
    publisher: Publisher, fetcher: Fetcher, target: Path
) -> None:
    packed = io.BytesIO()
    tarfile.open(fileobj=packed, mode="w:gz").close()
    published = publisher.publish("etcd.tar.gz", packed.getvalue())

    with pytest.raises(NoDownload, match="has no file etcd-v1/etcd"):
        fetcher.install(
            Artifact(published.url, published.checksums, {"etcd": "etcd-v1/etcd"}), target, Step("etcd")
        )


def test_a_missing_checksum_file_is_no_download(publisher: Publisher, fetcher: Fetcher, target: Path) -> None:
    artifact = publisher.publish("etcd", CONTENT)
    del publisher.files["/SHA256SUMS"]

    with pytest.raises(NoDownload, match=r"/SHA256SUMS answers 404"):
        fetcher.install(artifact, target, Step("etcd"))


def test_a_missing_file_is_no_download(publisher: Publisher, fetcher: Fetcher, target: Path) -> None:
    artifact = publisher.publish("etcd", CONTENT)
    del publisher.files["/etcd"]

    with pytest.raises(NoDownload, match=r"/etcd answers 404"):
        fetcher.install(artifact, target, Step("etcd"))


@pytest.mark.parametrize(
    "text",
    [
        f"{'b' * 64}\n",
        f"{'b' * 64}  tool.tgz\n",
        f"{'b' * 64} *release/tool.tgz\n",
        f"{'a' * 64}  tool.tgz.sig\n{'B' * 64}  tool.tgz\n",
        f"# made today\n{'b' * 64}  tool.tgz\n",
    ],
)
def test_a_checksum_is_found_however_its_publisher_writes_it(text: str) -> None:
    assert checksum_in(text, "tool.tgz", "SHA256SUMS") == "b" * 64


def test_a_checksum_file_without_the_file_is_no_download() -> None:
    with pytest.raises(NoDownload, match=r"SHA256SUMS lists no checksum for tool\.tgz"):
        checksum_in(f"{'a' * 64}  other.tgz\n", "tool.tgz", "SHA256SUMS")


def test_a_host_is_asked_once_per_run(publisher: Publisher) -> None:
    hosts = Hosts()

    assert [hosts.refusal(f"{publisher.url}/{name}") for name in "abc"] == [None] * 3

    assert publisher.requests == ["HEAD "] or publisher.requests == ["HEAD /"]


def test_a_host_that_knows_no_front_page_still_answers(publisher: Publisher) -> None:
    publisher.head_status = 404

    assert Hosts().refusal(publisher.url) is None


def test_a_host_that_redirects_its_front_page_answers(publisher: Publisher) -> None:
    publisher.head_status = 302

    assert Hosts().refusal(publisher.url) is None


def test_a_proxy_that_forbids_a_host_is_a_refusal(publisher: Publisher) -> None:
    publisher.head_status = 403

    assert Hosts().refusal(publisher.url) == f"{publisher.url} answers 403"


def test_a_host_that_is_not_there_is_a_refusal() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        assert Hosts().refusal(f"{url}/file") == f"{url} cannot be reached (Connection refused)"


def test_downloads_can_be_switched_off(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NEVER, "never")

    assert Hosts().refusal(publisher.url) == f"{NEVER}=never"
    assert publisher.requests == []
