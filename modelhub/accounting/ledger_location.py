"""Where a ledger is: in an SQLite file, or in a PostgreSQL database."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote

__all__ = ["LedgerError", "LedgerLocation", "is_server_url", "parse_location", "validate_url"]

_SCHEME = re.compile(r"(postgres|postgresql|postgresql\+psycopg)://", re.IGNORECASE)
_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class LedgerError(Exception):
    """The ledger cannot be opened, read or written.

    `locked` means that another process holds a lock, `disconnected` that the connection to the database is lost.
    """

    def __init__(self, message: str, *, locked: bool = False, disconnected: bool = False) -> None:
        super().__init__(message)
        self.locked = locked
        self.disconnected = disconnected


@dataclass(frozen=True, slots=True)
class LedgerLocation:
    """The `path` of a file, or the `url` of a PostgreSQL database.

    As text, that is the host and the database, and nothing else: no text of this object shows the password.
    """

    path: Path | None = None
    url: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.url is None:
            return str(self.path)
        # Up to the last `@` anything may belong to the password, if that is not percent-encoded.
        target, _, query = _split_url(self.url).rpartition("@")[2].partition("?")
        parameters = dict(parse_qsl(query))
        host, _, database = target.partition("/")
        host = host or parameters.get("host", "")
        return f"postgresql://{host}/{database or parameters.get('dbname', '')}"

    @property
    def name(self) -> str:
        """The name of the file or database."""
        return self.path.name if self.path is not None else str(self)

    def exists(self) -> bool:
        """Return whether there is something to read: whether the file exists; a database is taken to exist."""
        return self.path is None or self.path.exists()

    def redact(self, text: str) -> str:
        """Return *text*, a message of the database, on one line and without the password."""
        content = "" if self.url is None else _split_url(self.url)
        password = content.rpartition("@")[0].partition(":")[2]
        pairs = [pair.partition("=") for pair in content.partition("?")[2].split("&")]
        secrets = [password, *(value for key, _, value in pairs if "password" in key)]
        secrets += re.split("[:@/?#]", password)  # what the driver may have taken for other parts of the URL
        spellings = {spelling for secret in secrets for spelling in (secret, unquote(secret)) if spelling}
        for spelling in sorted(spellings, key=len, reverse=True):
            text = text.replace(spelling, "***")
        return " ".join(text.split())


def is_server_url(text: str) -> bool:
    """Return whether *text* is the URL of a PostgreSQL database."""
    return _SCHEME.match(text) is not None


def parse_location(text: str, folder: Path = Path()) -> LedgerLocation:
    """Return the location that *text* names, a URL or a path; a relative path is relative to *folder*."""
    if is_server_url(text):
        return LedgerLocation(url=f"postgresql://{_split_url(text)}")
    return LedgerLocation(path=folder / Path(text).expanduser())


def validate_url(text: str) -> None:
    """Raise ValueError, without showing *text*, if it is a URL of another kind, or one whose parts are ambiguous."""
    if not is_server_url(text):
        if "://" in text:
            raise ValueError("must be a path, or a URL that begins with postgresql://")
        return
    credentials, at, remainder = _split_url(text).rpartition("@")
    if at and re.search(r"[@/?#\s]", credentials):
        raise ValueError("has a password that is not percent-encoded (`@` is %40, `/` is %2F, `?` is %3F, `#` is %23)")
    if _BROKEN_PERCENT.search(credentials):
        raise ValueError("has a `%` that does not begin a percent-encoded character (`%` itself is %25)")
    if not remainder.partition("?")[0].partition("/")[2] and "dbname=" not in remainder and "service=" not in remainder:
        raise ValueError("names no database: postgresql://user@host/database")


def _split_url(url: str) -> str:
    """Return *url* without its scheme."""
    return _SCHEME.sub("", url, count=1)
