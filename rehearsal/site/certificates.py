"""The site's own certificate authorities and one certificate per component.

etcd has an authority of its own: it trusts every certificate of its authority, so that with a shared
one any component's client certificate would open the database.
"""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rehearsal.site.layout import API_SERVICE_IP, CLUSTER_DOMAIN, NODE_IP, SiteLayout
from rehearsal.site.link import FAR_IP

VALID_DAYS = 365
RENEW_DAYS = 30

CLUSTER_CA = "ca"
ETCD_CA = "etcd-ca"
SERVICE_ACCOUNT_KEY = "service-accounts"


@dataclass(frozen=True)
class Subject:
    """Who a certificate is for and what it may be used for."""

    file: str
    common_name: str
    organization: str | None = None
    authority: str = CLUSTER_CA
    client: bool = True
    server_names: Sequence[str] = field(default=())


def subjects(layout: SiteLayout) -> list[Subject]:
    """Lists every certificate of a site."""
    services = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
    ]
    return [
        # What the API server is reached by: inside, as a Service, from the host, and over a link.
        Subject(
            "kube-apiserver",
            "kube-apiserver",
            client=False,
            server_names=(*services, "localhost", "127.0.0.1", NODE_IP, API_SERVICE_IP, FAR_IP),
        ),
        Subject("kube-apiserver-kubelet-client", "spillway:kube-apiserver"),
        Subject("kube-apiserver-etcd-client", "kube-apiserver", authority=ETCD_CA),
        Subject("etcd", "etcd", authority=ETCD_CA, server_names=("localhost", "127.0.0.1")),
        Subject("admin", "spillway:admin", "system:masters"),
        Subject(
            "kube-controller-manager",
            "system:kube-controller-manager",
            server_names=("localhost", "127.0.0.1"),
        ),
        Subject("kube-scheduler", "system:kube-scheduler", server_names=("localhost", "127.0.0.1")),
        Subject("kubelet", f"system:node:{layout.node_name}", "system:nodes"),
        Subject("kubelet-server", layout.node_name, client=False, server_names=(layout.node_name, NODE_IP)),
        Subject("kube-proxy", "system:kube-proxy"),
        Subject("coredns", "spillway:coredns"),
        Subject("kwok", "spillway:kwok"),
        Subject("simulated-engines", "spillway:simulated-engines"),
        Subject("load-balancer", "spillway:load-balancer"),
    ]


def certificate_file(layout: SiteLayout, name: str) -> Path:
    """Path of a certificate."""
    return layout.pki / f"{name}.crt"


def key_file(layout: SiteLayout, name: str) -> Path:
    """Path of a private key."""
    return layout.pki / f"{name}.key"


def ensure_certificates(layout: SiteLayout) -> None:
    """Creates authorities, service-account key and every certificate that is missing or runs out soon.

    A new authority makes all certificates new, because the old ones would no longer be trusted.
    """
    layout.pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = {name: _ensure_authority(layout, name) for name in (CLUSTER_CA, ETCD_CA)}
    if not key_file(layout, SERVICE_ACCOUNT_KEY).exists():
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_private(layout.pki / f"{SERVICE_ACCOUNT_KEY}.pub", public)
        _write_key(key_file(layout, SERVICE_ACCOUNT_KEY), key)
    for subject in subjects(layout):
        if fresh[subject.authority] or _expires_soon(certificate_file(layout, subject.file)):
            _issue(layout, subject)


def write_private(path: Path, data: bytes) -> None:
    """Writes a file that only its owner can read, replacing it in one step."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)


def _ensure_authority(layout: SiteLayout, name: str) -> bool:
    path = certificate_file(layout, name)
    if not _expires_soon(path) and key_file(layout, name).exists():
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{layout.netns}-{name}")])
    certificate = (
        _builder(subject, subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_file(layout, name), key)
    write_private(path, certificate.public_bytes(serialization.Encoding.PEM))
    return True


def _issue(layout: SiteLayout, subject: Subject) -> None:
    authority = x509.load_pem_x509_certificate(certificate_file(layout, subject.authority).read_bytes())
    authority_key = serialization.load_pem_private_key(
        key_file(layout, subject.authority).read_bytes(), password=None
    )
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{key_file(layout, subject.authority)} is no key of ours")
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)]
    if subject.organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organization))
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] if subject.client else []
    if subject.server_names:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    builder = (
        _builder(x509.Name(attributes), authority.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    if subject.server_names:
        names = [_general_name(name) for name in subject.server_names]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority_key, hashes.SHA256())
    _write_key(key_file(layout, subject.file), key)
    write_private(
        certificate_file(layout, subject.file), certificate.public_bytes(serialization.Encoding.PEM)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # A clock that was a little ahead when the certificate was made must not make it invalid.
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(path, pem)


def _expires_soon(path: Path) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return True
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left < datetime.timedelta(days=RENEW_DAYS)
