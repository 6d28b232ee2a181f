"""Where an issuer's public keys come from: a JWKS file, or a URL that is asked over TLS."""

from __future__ import annotations

import ipaddress
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.domain.errors import InvalidInput, Violation

JWKS_BYTES_MAX = 1024 * 1024
FETCH_TIMEOUT_S = 5.0


class KeysUnreadable(Exception):
    """The source gave nothing that can be used; the text says why and names no secret."""


def read_source(source: str) -> bytes:
    """The JWKS document, at most JWKS_BYTES_MAX bytes. Blocks; KeysUnreadable if there is none."""
    try:
        content = _fetched(source) if is_url(source) else Path(source).read_bytes()
    except (OSError, ValueError, HTTPException) as error:  # a URLError is an OSError
        raise KeysUnreadable(f"{type(error).__name__} while reading the keys") from None
    if len(content) > JWKS_BYTES_MAX:
        raise KeysUnreadable(f"more than {JWKS_BYTES_MAX:,} bytes of keys")
    return content


def is_url(source: str) -> bool:
    """Whether the source is asked rather than opened."""
    return "://" in source


def check_source(source: str) -> None:
    """InvalidInput for a URL whose answer somebody on the way could have written."""
    if not is_url(source):
        return
    url = urlsplit(source)
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or "")):
        return
    raise InvalidInput([Violation("auth_jwks", "must be a file, an https URL, or an http URL on loopback")])


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead from TLS to plain text, or into the operator's own network."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetched(source: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    with opener.open(source, timeout=FETCH_TIMEOUT_S) as answer:
        return bytes(answer.read(JWKS_BYTES_MAX + 1))
