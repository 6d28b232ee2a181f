"""Client certificates of nodes. TLS has proven the chain; here the certificate says which node it is for.

The name is a SPIFFE id in the certificate's URI names: `spiffe://TRUST-DOMAIN/node/NODE_ID`, exactly one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from engine.domain.errors import Unauthenticated
from engine.trust.principal import Principal, Role, is_name
from engine.trust.revocation import Revocations

REMEMBERED_MAX = 100_000


class CertificateReader:
    """Certificates to principals, remembered by their hash. `clock_s`: seconds since the epoch."""

    def __init__(self, revoked: Revocations, clock_s: Callable[[], float]) -> None:
        self._revoked, self._clock_s = revoked, clock_s
        self._remembered: OrderedDict[bytes, Principal] = OrderedDict()

    def read(self, pem: bytes) -> Principal:
        """The node that a certificate (PEM), already verified by TLS, stands for. A connection may outlive it."""
        digest = hashlib.sha256(pem).digest()
        principal = self._remembered.get(digest)
        if principal is None:
            principal = self._remembered[digest] = node_of(pem)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        if self._clock_s() >= principal.expires_at_s:
            raise Unauthenticated("the certificate has expired")
        if principal.credential_id in self._revoked:
            raise Unauthenticated("the certificate was revoked")
        return principal


def node_of(pem: bytes) -> Principal:
    """The node that a certificate names; Unauthenticated if it names none, or several."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        raise Unauthenticated("the certificate names no node") from None
    found = [_node_id(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    if len(found) != 1 or not is_name(found[0]):
        raise Unauthenticated("the certificate must name exactly one spiffe://TRUST-DOMAIN/node/NODE_ID")
    fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    expires_at_s = certificate.not_valid_after_utc.timestamp()
    return Principal(frozenset({Role.NODE}), str(found[0]), f"cert:{fingerprint}", expires_at_s)


def _node_id(uri: str) -> str | None:
    url = urlsplit(uri)
    prefix = "/node/"
    return unquote(url.path[len(prefix) :]) if url.scheme == "spiffe" and url.path.startswith(prefix) else None
