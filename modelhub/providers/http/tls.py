"""The TLS context of all connections: whom the environment says to trust."""

from __future__ import annotations

import os
import ssl
from functools import cache
from pathlib import Path

from modelhub.core.errors import NotConfigured

__all__ = ["check_trust_settings", "tls_context"]


def tls_context() -> ssl.SSLContext:
    """Return the TLS context of all connections, made once for each setting: making one takes longer than a call.

    SSL_CERT_FILE and SSL_CERT_DIR, where set, name the only certificate authorities that are trusted, as with httpx,
    curl and OpenSSL; otherwise the system's and certifi's are. Raises NotConfigured if a named file cannot be used.
    """
    return _tls_context(*check_trust_settings())


@cache
def _tls_context(cafile: str | None, capath: str | None) -> ssl.SSLContext:
    if cafile or capath:
        try:
            return ssl.create_default_context(cafile=cafile, capath=capath)
        except OSError as error:
            raise NotConfigured(f"SSL_CERT_FILE names {cafile}, which cannot be read as certificates") from error
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def check_trust_settings() -> tuple[str | None, str | None]:
    """Return what SSL_CERT_FILE and SSL_CERT_DIR name. Raises NotConfigured if it is not there."""
    cafile, capath = os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None
    if cafile and not Path(cafile).is_file():
        raise NotConfigured(f"SSL_CERT_FILE names {cafile}, which is no file")
    if capath and not Path(capath).is_dir():
        raise NotConfigured(f"SSL_CERT_DIR names {capath}, which is no folder")
    return cafile, capath
