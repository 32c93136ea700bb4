"""TLS on the link: how the gateway asks for it, and how the same gateway over there answers.

Who may come in is still told by the key; the certificate tells on-prem that nobody stands between.
"""

from runtime.gateway.config import GatewayConfig, LinkTls
from runtime.gateway.document import Tree, discovery, extension, typed, watched

CERTIFICATE_FILE = "certificate.yaml"

_SOCKETS = "envoy.extensions.transport_sockets"
_SECRET_NAME = "certificate"  # noqa: S105 - what Envoy calls it
_TO_GATE: dict[str, Tree] = {"gate": True}
# Both ends are ours and of one version. As a client Envoy would by itself go no higher than 1.2.
_VERSION: dict[str, Tree] = {
    "tls_minimum_protocol_version": "TLSv1_3",
    "tls_maximum_protocol_version": "TLSv1_3",
}


def asking(tls: LinkTls | None) -> dict[str, Tree]:
    """Returns the part of a cluster that has it speak TLS and check who answers; nothing without TLS."""
    if tls is None:
        return {}
    who: dict[str, Tree] = {"san_type": "DNS", "matcher": {"exact": tls.server_name}}
    checked: dict[str, Tree] = {
        "trusted_ca": {"inline_string": tls.authority},
        "match_typed_subject_alt_names": [who],
    }
    context: dict[str, Tree] = {"tls_params": _VERSION, "validation_context": checked}
    return {
        "transport_socket": extension(
            "envoy.transport_sockets.tls",
            f"{_SOCKETS}.tls.v3.UpstreamTlsContext",
            {"sni": tls.server_name, "common_tls_context": context},
        )
    }


def plain_to_gate(tls: LinkTls | None) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """Returns parts of a cluster and of its health check: the gate, on the loopback, is asked without TLS."""
    if tls is None:
        return {}, {}
    plain = extension("envoy.transport_sockets.raw_buffer", f"{_SOCKETS}.raw_buffer.v3.RawBuffer")
    match: dict[str, Tree] = {"name": "gate", "match": _TO_GATE, "transport_socket": plain}
    return {"transport_socket_matches": [match]}, {"transport_socket_match_criteria": _TO_GATE}


def answering(config: GatewayConfig) -> dict[str, Tree]:
    """Returns the part of a filter chain that speaks TLS; nothing without a certificate."""
    if config.certificate_folder is None:
        return {}
    own: dict[str, Tree] = {
        "name": _SECRET_NAME,
        "sds_config": watched(config.config_folder, CERTIFICATE_FILE),
    }
    context: dict[str, Tree] = {"tls_params": _VERSION, "tls_certificate_sds_secret_configs": [own]}
    return {
        "transport_socket": extension(
            "envoy.transport_sockets.tls",
            f"{_SOCKETS}.tls.v3.DownstreamTlsContext",
            {"common_tls_context": context},
        )
    }


def certificate_file(folder: str) -> str:
    """Returns the text of the file that says where the certificate is; a renewed one needs no restart."""
    certificate: dict[str, Tree] = {
        "certificate_chain": {"filename": f"{folder}/tls.crt"},
        "private_key": {"filename": f"{folder}/tls.key"},
        "watched_directory": {"path": folder},
    }
    return discovery(
        [typed(f"{_SOCKETS}.tls.v3.Secret", {"name": _SECRET_NAME, "tls_certificate": certificate})]
    )
