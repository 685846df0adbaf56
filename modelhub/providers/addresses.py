"""Addresses of servers and proxies: what of them may be shown, and what keeps one from being used."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_to_bytes, urlsplit

__all__ = ["explain_address", "find_passwords", "find_secrets", "hide_password", "server_name", "split_userinfo"]

_SCHEMES = ("http", "https")


def server_name(address: str) -> str:
    """Return the host and port of *address*, without a name or password, however badly it is written."""
    _, _, server = address.rpartition("@")
    server = server.partition("://")[2] or server
    return re.split(r"[/?#\\\s]", server, maxsplit=1)[0]


def hide_password(address: str) -> str:
    """Return *address* without what stands before its last `@`, but for the scheme."""
    before, at, server = address.rpartition("@")
    scheme, slashes, _ = before.partition("://")
    return f"{scheme}{slashes}{server}" if at and slashes else server


def find_passwords(address: str) -> Iterator[str]:
    """Yield the password in *address*, or the only name there, as written and decoded, and the parts of one that is
    not escaped: a parser may show what follows its `#` or `/` alone."""
    before, at, _ = address.rpartition("@")
    if not at:
        return
    userinfo = before.partition("://")[2] or before
    name, colon, password = userinfo.partition(":")
    secret = password if colon else name
    decoded = unquote_to_bytes(secret).decode("utf-8", "replace")
    yield from filter(None, {secret, decoded})
    for part in re.split(r"[/?#@:\\]", secret):
        if part and part != secret:
            yield part


def find_secrets(address: str) -> Iterator[str]:
    """Yield what `find_passwords` does, and name and password as they are sent: together, in base64."""
    if "@" not in address:
        return
    yield from find_passwords(address)
    name, colon, password = address.rpartition("@")[0].rpartition("://")[2].partition(":")
    if colon and password:
        yield base64.b64encode(unquote_to_bytes(name) + b":" + unquote_to_bytes(password)).decode()


def split_userinfo(address: str) -> tuple[str, tuple[str, str] | None]:
    """Return *address* without a name and password, and these two, decoded, or None if it has none.

    An address that cannot be read, such as one whose password is not escaped, is returned as it is.
    """
    if "@" not in address or explain_address(address) is not None:
        return address, None
    parts = urlsplit(address)
    userinfo, at, server = parts.netloc.rpartition("@")
    if not at:
        return address, None
    name, _, password = userinfo.partition(":")
    return parts._replace(netloc=server).geturl(), (unquote(name), unquote(password))


def explain_address(address: str, schemes: tuple[str, ...] = _SCHEMES) -> tuple[str, str] | None:
    """Return what is wrong with *address* and what was probably meant, without its password; None if it can be used."""
    shown = hide_password(address)
    if any(char.isspace() or not char.isprintable() for char in address):
        return f"`{' '.join(shown.split())}` has white space or a control character in it", "remove it"
    scheme, slashes, remaining = address.partition("://")
    if not slashes:
        guess = "http" if re.match(r"localhost|127\.|\[|\d+\.\d+\.", server_name(address)) else "https"
        return f"`{shown}` has no scheme", f"did you mean `{guess}://{shown.lstrip('/')}`?"
    if scheme.lower() not in schemes:
        return f"`{shown}` begins with `{scheme}://`", f"it must begin with {' or '.join(f'{s}://' for s in schemes)}"
    server = re.split(r"[/?#]", remaining, maxsplit=1)[0].rpartition("@")[2]
    if "@" in remaining and server != server_name(address):
        return f"the password in `{shown}` is not escaped", "write %2F for /, %23 for #, %3F for ? and %40 for @"
    if (match := re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(.*))?", server)) is None:
        return f"the host of `{shown}` cannot be read", "an IPv6 address stands in square brackets"
    host, port = match[1], match[2] or ""
    if not host:
        return f"`{shown}` has no host", ""
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        return f"the port `{port[:12]}` of `{shown}` is no number from 1 to 65535", ""
    return None
