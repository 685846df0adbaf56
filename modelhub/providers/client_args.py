"""The arguments of SDKs' clients, as the caller gives them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from modelhub.providers.http import Timeouts

__all__ = ["merge_client_args", "read_timeouts", "secret_headers"]

_SECRET_WORDS = ("auth", "key", "token", "secret", "cookie")


def merge_client_args(*arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the *arguments* of an SDK's client as one, without its own retries, which stay off."""
    merged = {name: value for each in arguments for name, value in (each or {}).items()}
    if merged.pop("max_retries", 0):
        warnings.warn("client_args: max_retries is ignored, retries are made by modelhub alone", stacklevel=4)
    return merged


def secret_headers(headers: Any) -> Iterator[str]:
    """Yield the values of *headers* that authorize, as they are and without `Bearer`."""
    for name, value in (headers or {}).items():
        if isinstance(value, str) and any(word in name.lower() for word in _SECRET_WORDS):
            yield value
            yield value.removeprefix("Bearer ")


def read_timeouts(value: Any, default: Timeouts) -> Timeouts:
    """Return what *value* says: seconds, an object like httpx's Timeout, or its tuple; None is *default*."""
    if value is None:
        return default
    if isinstance(value, int | float):
        return Timeouts(min(value, default.connect or value), value, value)
    if isinstance(value, tuple | list):  # connect, read, write, pool, as httpx has it
        connect, read, _, pool = (*value, *(None,) * 4)[:4]
        return Timeouts(connect, read, pool)
    return Timeouts(*(getattr(value, name, getattr(default, name)) for name in Timeouts._fields))
