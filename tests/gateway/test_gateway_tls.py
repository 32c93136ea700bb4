"""TLS between the two gateways, both of them real: what crosses, and what does not."""

import datetime
import ssl
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runtime.gateway import LinkTls, ModelRoute, Upstream, render
from tests.support.waiting import wait_until

from .conftest import PATIENT, SPILL_KEY, RunGateway
from .fake_upstream import FakeUpstream
from .running_gateway import RunningGateway

NAME = "spill.llm.internal"


@dataclass(frozen=True)
class Issued:
    """A certificate that signs itself, and its key, as PEM."""

    certificate: str
    key: str

    def write(self, folder: Path) -> None:
        """As the kubelet mounts a Secret: files behind a link that is swapped."""
        folder.mkdir(exist_ok=True)
        place = folder / f"..{abs(hash(self.certificate))}"
        place.mkdir()
        (place / "tls.crt").write_text(self.certificate)
        (place / "tls.key").write_text(self.key)
        (folder / "..data_tmp").symlink_to(place.name)
        (folder / "..data_tmp").rename(folder / "..data")
        for name in ("tls.crt", "tls.key"):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")


def issued(name: str = NAME) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


class Link:
    """A gateway on-prem, and one over there with a certificate."""

    def __init__(self, run: RunGateway, run_spill: RunGateway, own: FakeUpstream, far: FakeUpstream) -> None:
        self.run_spill, self.own = run_spill, own
        self.valid = issued()
        self.there = run(
            start=False,
            models=(ModelRoute(name="tiny", upstream=Upstream(host="127.0.0.1", port=far.port)),),
        )
        self.folder = self.there.folder / "certificate"
        self.valid.write(self.folder)
        self.there.config = replace(self.there.config, certificate_folder=str(self.folder))
        self.there.keys = {"on-prem": SPILL_KEY}
        self.there.publish_config(self.there.config)
        self.there.publish_keys(self.there.keys)
        self.there.launch()
        wait_until(lambda: self.served() == self.valid.certificate, "the other side speaks TLS")

    def served(self) -> str:
        """The certificate that the other side shows."""
        try:
            address = ("127.0.0.1", self.there.config.listen_port)
            return ssl.get_server_certificate(address).replace("\r", "").strip() + "\n"
        except OSError:
            return ""

    def here(self, tls: LinkTls | None) -> RunningGateway:
        edge = Upstream(host="127.0.0.1", port=self.there.config.listen_port)
        own = Upstream(host="127.0.0.1", port=self.own.port)
        return self.run_spill(
            models=(ModelRoute(name="tiny", upstream=own, spill=edge),),
            overflow=replace(PATIENT, tls=tls, health_interval_s=0.2),
        )


@pytest.fixture
def link(run_gateway: RunGateway, run_overflow: RunGateway, tiny: FakeUpstream, llama: FakeUpstream) -> Link:
    tiny.refuses_with = 503
    return Link(run_gateway, run_overflow, tiny, llama)


def test_a_spilled_request_crosses_the_link_by_tls_and_a_renewed_certificate_needs_no_restart(
    link: Link,
) -> None:
    renewed = issued()
    both = link.valid.certificate + renewed.certificate
    here = link.here(LinkTls(server_name=NAME, authority=both))
    wait_until(lambda: here.chat().headers.get("x-spillway-pool") == "spill", "it is spilled")
    renewed.write(link.folder)
    wait_until(lambda: link.served() == renewed.certificate, "the new certificate is shown")
    assert here.chat().headers["x-spillway-pool"] == "spill"
    assert "deprecated" not in (here.log + link.there.log).lower()


@pytest.mark.parametrize("wrong", ["another authority", "another name", "no TLS"])
def test_nothing_is_sent_to_one_who_cannot_prove_who_he_is(
    link: Link, wrong: str, llama: FakeUpstream
) -> None:
    tls = {
        "another authority": LinkTls(server_name=NAME, authority=issued().certificate),
        "another name": LinkTls(server_name="other.llm.internal", authority=link.valid.certificate),
        "no TLS": None,
    }[wrong]
    here = link.here(tls)
    answer = here.chat()
    assert (answer.status, "retry-after" in answer.headers) == (429, True)
    assert llama.received == []


def test_the_other_side_answers_nobody_without_tls(link: Link) -> None:
    with pytest.raises(OSError, match=r"."):
        urllib.request.urlopen(f"http://127.0.0.1:{link.there.config.listen_port}/healthz", timeout=5)


def test_without_tls_no_file_says_anything_of_it(link: Link) -> None:
    here = link.here(None)
    assert "tls" not in "".join(render(here.config)[name] for name in ("clusters.yaml", "listeners.yaml"))


@pytest.mark.parametrize(
    ("name", "authority", "words"),
    [
        ("not a name", "", "overflow.tls.server_name is 'not a name'"),
        (NAME, "hello", "certificates in PEM and nothing else"),
        (NAME, issued().certificate + issued().key, "certificates in PEM and nothing else"),
    ],
)
def test_a_wrong_name_or_authority_is_refused_and_no_key_is_repeated(
    name: str, authority: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as error:
        LinkTls(server_name=name, authority=authority)
    assert "BEGIN" not in str(error.value)
