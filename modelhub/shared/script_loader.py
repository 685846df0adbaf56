"""The scripts that run in the store, each of them atomically."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["Script", "load_script"]


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and the name by which a server knows it once it has run it."""

    source: str
    sha: str


@cache
def load_script(name: str) -> Script:
    """Return the script *name* of this package, such as "limit"."""
    source = files("modelhub.shared").joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
