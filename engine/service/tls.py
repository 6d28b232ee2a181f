"""TLS of the listeners. Certificates are read again when their files change: renewing one drops no connection."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from engine.domain.errors import InvalidInput, Violation
from engine.service.options import ServerOptions

log = logging.getLogger("walras.tls")


def server_credentials(options: ServerOptions, *, demand_client: bool) -> grpc.ServerCredentials:
    """Credentials of a listener; `demand_client`: only callers with a certificate of `tls_client_ca` get in."""
    assert options.tls_cert is not None and options.tls_key is not None
    files = _Files(options.tls_cert, options.tls_key, options.tls_client_ca if demand_client else None)
    # typeshed forgets that a fetcher may answer None: nothing has changed
    changed: Any = files.changed
    return grpc.dynamic_ssl_server_credentials(files.read(), changed, demand_client)


class _Files:
    """The files of a listener and what was last seen of them."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._paths = [path for path in (cert, key, client_ca) if path is not None]
        self._seen: list[int] = []

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What is in the files now; InvalidInput if they cannot be read."""
        try:
            seen = [path.stat().st_mtime_ns for path in self._paths]
            cert, key, *client_ca = [path.read_bytes() for path in self._paths]
        except OSError as error:
            raise InvalidInput([Violation("tls_cert", f"cannot be read: {error.strerror}")]) from None
        if not _belong_together(cert, key):
            raise InvalidInput([Violation("tls_key", "is not the key of tls_cert")])
        self._seen = seen
        return grpc.ssl_server_certificate_configuration([(key, cert)], client_ca[0] if client_ca else None)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The files' new content, None if they are as they were. Called at each handshake."""
        try:
            if [path.stat().st_mtime_ns for path in self._paths] == self._seen:
                return None
            return self.read()
        except (OSError, InvalidInput):
            log.warning("the certificate files do not fit; those read before stay in use")
            return None


def _belong_together(cert: bytes, key: bytes) -> bool:
    """Whether a chain's first certificate is for a key: two files are not replaced in one moment."""
    try:
        leaf = x509.load_pem_x509_certificate(cert).public_key()
        own = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError):
        return False
    return _public_bytes(leaf) == _public_bytes(own)


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
