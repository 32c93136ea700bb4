"""Downloads from publishers: probed first, resumed after a cut, verified against their checksums."""

import hashlib
import http.client
import os
import re
import shutil
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rehearsal.tools.catalogue import Artifact
from rehearsal.tools.errors import ToolError
from runtime.ops.progress import Step

NEVER = "SPILLWAY_OFFLINE_DOWNLOADS"
PROBE_S = 3.0
READ_S = 30.0
FRUITLESS_ATTEMPTS = 2
RETRY_S = 0.5
CHUNK = 1 << 18
MEGABYTE = 1_000_000


class NoDownload(Exception):  # noqa: N818 - no error: the next source is tried
    """A download that cannot be had; the message says why."""


class Stopped(Exception):  # noqa: N818 - no error: another thread failed or the user pressed Ctrl-C
    """The download was told to stop; what it has is kept for the next run."""


@dataclass
class _Probe:
    """One question to a host, in a thread of its own, since looking up a name obeys no timeout."""

    host: str
    answer: str | None = None
    done: threading.Event = field(default_factory=threading.Event)
    asked: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.answer = f"{self.host} did not answer within {PROBE_S:.0f} s"
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        try:
            with _open(self.host, method="HEAD", timeout=PROBE_S, follow=False):
                self.answer = None
        except urllib.error.HTTPError as error:
            # A redirect or its own 404 is an answer; these are a proxy's or an outage.
            refused = error.code in (403, 407) or error.code >= 500
            self.answer = f"{self.host} answers {error.code}" if refused else None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            told = reason.strerror if isinstance(reason, OSError) and reason.strerror else reason
            self.answer = f"{self.host} cannot be reached ({told})"
        self.done.set()

    def wait(self) -> str | None:
        """Why the host is of no use; None when it answered in time."""
        self.done.wait(max(0.0, self.asked + PROBE_S - time.monotonic()))
        return self.answer


@dataclass
class Hosts:
    """Which hosts answer, each asked once per run."""

    _probes: dict[str, _Probe] = field(default_factory=dict[str, _Probe])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refusal(self, url: str) -> str | None:
        """Why the host of a URL is of no use; None when it answers.

        Args:
            url: Any address on the host.
        """
        if os.environ.get(NEVER) == "never":
            return f"{NEVER}=never"
        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            probe = self._probes.get(host) or _Probe(host)
            self._probes[host] = probe
        return probe.wait()


def _opener(follow: bool) -> urllib.request.OpenerDirector:
    if follow:
        return urllib.request.build_opener()
    # The usual handlers but the one for redirects, which are then errors with their status.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _open(
    url: str,
    *,
    timeout: float,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    follow: bool = True,
) -> http.client.HTTPResponse:
    if urlsplit(url).scheme not in ("http", "https"):
        raise ToolError(f"{url} is no web address")
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))  # noqa: S310 - checked
    return _opener(follow).open(request, timeout=timeout)


@dataclass(frozen=True)
class Fetcher:
    """Downloads into one folder.

    Attributes:
        folder: Where downloads are kept until they are used.
        hosts: Which hosts answer.
        stop: Set by another thread to end all downloads soon.
    """

    folder: Path
    hosts: Hosts = field(default_factory=Hosts)
    stop: threading.Event = field(default_factory=threading.Event)

    def refusal(self, artifacts: tuple[Artifact, ...]) -> str | None:
        """Why some of these artifacts cannot be downloaded; None when all hosts answer."""
        for artifact in artifacts:
            for url in (artifact.checksums, artifact.url):
                if why := self.hosts.refusal(url):
                    return why
        return None

    def install(self, artifact: Artifact, target: Path, step: Step) -> str:
        """Downloads an artifact, verifies it and puts its files into a folder.

        Returns:
            What was taken, with its checksum, for the receipt.

        Raises:
            NoDownload: It cannot be had.
            ToolError: It is not what its publisher's checksum says.
        """
        expected = self._expected(artifact)
        path = self._verified(artifact, expected, step)
        for name, member in artifact.files.items():
            if member:
                _extract(path, member, target / name)
            else:
                shutil.move(path, target / name)
            (target / name).chmod(0o755)
        path.unlink(missing_ok=True)
        return f"{artifact.url} ({expected})"

    def _expected(self, artifact: Artifact) -> str:
        part = self._part(artifact.checksums)
        # Small, and the one file whose content nothing else verifies: never a resumed one.
        part.unlink(missing_ok=True)
        self._transfer(artifact.checksums, part, Step("checksum"))
        listed = part.read_text("utf-8", "replace")
        part.unlink()
        return checksum_in(listed, artifact.url.rsplit("/", 1)[-1], artifact.checksums)

    def _part(self, url: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(url.encode()).hexdigest()[:8]
        return self.folder / f"{key}-{url.rsplit('/', 1)[-1]}.part"

    def _verified(self, artifact: Artifact, expected: str, step: Step) -> Path:
        url = artifact.url
        part = self._part(url)
        resumed = part.exists() and part.stat().st_size > 0
        self._transfer(url, part, step)
        actual = _checksum(part, expected)
        if actual != expected and resumed:
            # The kept beginning may be of something else; only a whole fresh copy proves anything.
            part.unlink()
            self._transfer(url, part, step)
            actual = _checksum(part, expected)
        if actual != expected:
            part.unlink()
            raise ToolError(
                f"refused {url}: its checksum is {actual}, but its publisher says {expected} in "
                f"{artifact.checksums}. Try again later, or set {NEVER}=never to build it instead"
            )
        return part.rename(part.with_suffix(""))

    def _transfer(self, url: str, part: Path, step: Step) -> None:
        """Downloads a file to its end, however often the connection is cut on the way."""
        failure: Exception | None = None
        fruitless = 0
        while fruitless < FRUITLESS_ATTEMPTS:
            before = part.stat().st_size if part.exists() else 0
            failure = None
            try:
                if self._attempt(url, part, step):
                    return
            except urllib.error.HTTPError as error:
                if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    # Everything was here already, or it is of something else: the checksum tells.
                    return
                if error.code < 500:
                    raise NoDownload(f"{url} answers {error.code}") from error
                failure = error
            except (OSError, http.client.HTTPException) as error:
                failure = error
            grown = part.exists() and part.stat().st_size > before
            fruitless = 0 if grown else fruitless + 1
            if self.stop.wait(RETRY_S):
                raise Stopped
        raise NoDownload(f"{url} broke off: {failure or 'the connection ended early'}")

    def _attempt(self, url: str, part: Path, step: Step) -> bool:
        """Downloads what is missing; False when the connection ended before the file did."""
        have = part.stat().st_size if part.exists() else 0
        # The server checks a range against nothing, but what a version's address serves never changes,
        # and the checksum would tell.
        headers = {"Range": f"bytes={have}-"} if have else {}
        with _open(url, headers=headers, timeout=READ_S) as response:
            if have and response.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = 0  # A server that ignores ranges sends the whole file again.
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            of = f" of {total / MEGABYTE:.0f}" if total else ""
            with part.open("ab" if have else "wb") as file:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    step.update(f"downloaded {have / MEGABYTE:.0f}{of} MB")
                    if self.stop.is_set():
                        raise Stopped
        return total is None or have >= total


def checksum_in(text: str, name: str, origin: str) -> str:
    """Finds the checksum of a file in a publisher's checksum file.

    Args:
        text: `HASH  NAME` lines as `sha256sum` writes them, or nothing but a hash.
        name: The file's name.
        origin: Where the text is from, for the error.

    Returns:
        The hash in lower-case hex, SHA-256 or SHA-512 by its length.

    Raises:
        NoDownload: The file is not listed.
    """
    for line in text.splitlines():
        match = re.fullmatch(r"([0-9A-Fa-f]{64}|[0-9A-Fa-f]{128})(?:\s+\*?(\S+))?", line.strip())
        if match and (match[2] is None or match[2].rsplit("/", 1)[-1] == name):
            return match[1].lower()
    raise NoDownload(f"{origin} lists no checksum for {name}")


def _checksum(path: Path, like: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256" if len(like) == 64 else "sha512").hexdigest()


def _extract(archive: Path, member: str, target: Path) -> None:
    with tarfile.open(archive) as tar:
        try:
            source = tar.extractfile(member.removeprefix("./"))
        except KeyError:
            source = None
        if source is None:
            raise NoDownload(f"{archive.name} has no file {member}")
        with source, target.open("wb") as out:
            shutil.copyfileobj(source, out, CHUNK)
