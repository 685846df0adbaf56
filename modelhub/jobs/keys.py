"""What tells one row from another: a hash of all that its answer depends on, and of no secret.

That is what is sent (messages, parameters, the structure of the answer), and whom it may be sent to: the models of the
chain, in order, with the options that an answer can depend on. Keys, clients, time limits, retries, limits and prices
are left out: to change them asks no row again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from modelhub.config.load import Loaded
from modelhub.config.secrets import is_secret
from modelhub.messages.json_schema import check_structured_model, get_schema

__all__ = ["RowKeys", "describe_entries"]

_VERSION = 1  # of what goes into a key; another version asks every row again
_KEY_BYTES = 16
_IRRELEVANT = ("batch", "client_args", "context_window", "keys", "limit", "stream", "stream_inside")


class RowKeys:
    """Makes the keys of rows that are asked in the same way: of *entries*, with these parameters and this structure."""

    def __init__(self, entries: Mapping[str, Any], parameters: Mapping[str, Any], structured_model: Any = None) -> None:
        schema = None if structured_model is None else get_schema(check_structured_model(structured_model))
        common = {"version": _VERSION, "entries": entries, "parameters": parameters, "schema": schema}
        self._text = hashlib.blake2b(_as_json(common), digest_size=_KEY_BYTES)
        self._json = self._text.copy()
        self._text.update(b"text")
        self._json.update(b"json")

    def make_key(self, messages: Any) -> bytes:
        """Return the key of a row with these *messages*."""
        if isinstance(messages, str):
            key = self._text.copy()
            key.update(messages.encode("utf-8", "surrogatepass"))
        else:
            key = self._json.copy()
            key.update(_as_json(messages))
        return key.digest()


_encode_json = json.JSONEncoder(sort_keys=True, default=str).encode


def _as_json(value: Any) -> bytes:
    return _encode_json(value).encode()


def describe_entries(loaded: Loaded, name: str) -> dict[str, Any]:
    """Return what an answer of the chain or model *name* depends on, as JSON-compatible data without secrets."""
    described: dict[str, Any] = {}
    _describe_entry(loaded, name, described)
    return described


def _describe_entry(loaded: Loaded, name: str, described: dict[str, Any]) -> None:
    if name in described:
        return
    chain = loaded.chains.get(name)
    if chain is None:
        described[name] = _describe_model(loaded, name)
        return
    ask = None if chain.ask is None else chain.ask.given()
    described[name] = {"models": list(chain.member_names()), "ask": ask}
    for member in chain.member_names():
        _describe_entry(loaded, member, described)


def _describe_model(loaded: Loaded, name: str) -> dict[str, Any]:
    entry = loaded.models[name]
    if entry.options is None:
        return {"provider": entry.provider}
    fields = entry.options.model_dump(exclude_defaults=True, exclude=set(_IRRELEVANT))
    for field in entry.options.address_fields:
        if isinstance(fields.get(field), str):
            fields[field] = _strip_address(fields[field])
    return {"provider": entry.provider, **_strip_secrets(fields)}


def _strip_address(address: str) -> str:
    """Return *address* without a password and a query."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}"


def _strip_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): _strip_secrets(inner)
            for key, inner in value.items()
            if not is_secret(str(key)) and not isinstance(inner, SecretStr)
        }
    if isinstance(value, BaseModel):
        return _strip_secrets(value.model_dump(exclude_defaults=True))
    return [_strip_secrets(inner) for inner in value] if isinstance(value, list | tuple) else value
