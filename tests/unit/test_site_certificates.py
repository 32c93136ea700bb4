"""The site's authorities and certificates."""

import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rehearsal.site import certificates
from rehearsal.site.certificates import (
    CLUSTER_CA,
    ETCD_CA,
    certificate_file,
    ensure_certificates,
    key_file,
    subjects,
)
from rehearsal.site.kubeconfigs import write_admin_kubeconfig
from rehearsal.site.layout import SiteLayout


@pytest.fixture(name="layout")
def fixture_layout(tmp_path: Path) -> SiteLayout:
    layout = SiteLayout("probe", tmp_path)
    ensure_certificates(layout)
    return layout


def load(layout: SiteLayout, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate_file(layout, name).read_bytes())


def test_every_certificate_is_signed_by_its_authority(layout: SiteLayout) -> None:
    for subject in subjects(layout):
        load(layout, subject.file).verify_directly_issued_by(load(layout, subject.authority))


def test_etcd_trusts_no_certificate_of_the_cluster(layout: SiteLayout) -> None:
    assert load(layout, CLUSTER_CA).public_key() != load(layout, ETCD_CA).public_key()
    for_etcd = {subject.file for subject in subjects(layout) if subject.authority == ETCD_CA}
    assert for_etcd == {"etcd", "kube-apiserver-etcd-client"}


def test_the_kubelet_is_the_node_that_the_node_authorizer_expects(layout: SiteLayout) -> None:
    name = load(layout, "kubelet").subject
    assert name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:probe-node-0"
    assert name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


def test_only_the_admin_is_above_the_rules(layout: SiteLayout) -> None:
    masters = [subject.file for subject in subjects(layout) if subject.organization == "system:masters"]
    assert masters == ["admin"]


def test_a_client_certificate_cannot_serve(layout: SiteLayout) -> None:
    usage = load(layout, "kwok").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_api_server_is_valid_by_every_way_to_it(layout: SiteLayout) -> None:
    names = load(layout, "kube-apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    addresses = {str(address) for address in names.value.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "10.0.0.9", "10.96.0.1", "10.99.0.2"}
    assert "kubernetes.default.svc" in names.value.get_values_for_type(x509.DNSName)


def test_keys_and_kubeconfig_are_readable_by_their_owner_only(layout: SiteLayout) -> None:
    write_admin_kubeconfig(layout, 21001)
    secret = [key_file(layout, subject.file) for subject in subjects(layout)] + [layout.admin_kubeconfig]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}


def test_the_kubeconfig_verifies_the_server(layout: SiteLayout) -> None:
    write_admin_kubeconfig(layout, 21001)
    text = layout.admin_kubeconfig.read_text()
    cluster = yaml.safe_load(text)["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.0.0.1:21001"
    assert "certificate-authority-data" in cluster
    assert "insecure" not in text


def test_valid_certificates_are_kept(layout: SiteLayout) -> None:
    before = {subject.file: load(layout, subject.file).serial_number for subject in subjects(layout)}
    ensure_certificates(layout)
    assert {subject.file: load(layout, subject.file).serial_number for subject in subjects(layout)} == before


def test_certificates_that_run_out_soon_are_made_anew(
    layout: SiteLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(layout, "kwok").serial_number
    monkeypatch.setattr(certificates, "RENEW_DAYS", certificates.VALID_DAYS + 1)
    ensure_certificates(layout)
    assert load(layout, "kwok").serial_number != before
    load(layout, "kwok").verify_directly_issued_by(load(layout, CLUSTER_CA))
