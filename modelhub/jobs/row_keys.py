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

from modelhub.config.load import Loaded, ModelEntry
from modelhub.config.secrets import is_secret
from modelhub.messages.json_schema import check_structured_model, get_schema

__all__ = ["RowKeys", "describe_entries"]

_VERSION = 1  # of what goes into a key; another version asks every row again
_KEY_BYTES = 16
_IRRELEVANT = ("batch", "client_args", "context_window", "keys", "limit", "stream", "stream_inside")
_encode_json = json.JSONEncoder(sort_keys=True, default=str).encode


class RowKeys:
    """Makes the keys of rows that are asked in the same way: of *entries*, with these parameters and this structure."""

    def __init__(self, entries: Mapping[str, Any], parameters: Mapping[str, Any], structured_model: Any = None) -> None:
        schema = None if structured_model is None else get_schema(check_structured_model(structured_model))
        common = {"version": _VERSION, "entries": entries, "parameters": parameters, "schema": schema}
        self._text = hashlib.blake2b(_encode_json(common).encode(), digest_size=_KEY_BYTES)
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
            key.update(_encode_json(messages).encode())
        return key.digest()


def describe_entries(loaded: Loaded, name: str) -> dict[str, Any]:
    """Return what an answer of the chain or model *name* depends on, as JSON-compatible data without secrets."""
    described: dict[str, Any] = {}
    names = [name]
    while names:
        name = names.pop()
        chain = loaded.chains.get(name)
        if chain is None:
            described[name] = _describe_model(loaded.models[name])
        elif name not in described:
            ask = None if chain.ask is None else chain.ask.given()
            described[name] = {"models": list(chain.member_names()), "ask": ask}
            names += chain.member_names()
    return described


def _describe_model(entry: ModelEntry) -> dict[str, Any]:
    if entry.options is None:
        return {"provider": entry.provider}
    fields = entry.options.model_dump(exclude_defaults=True, exclude=set(_IRRELEVANT))
    for field in entry.options.address_fields:
        if isinstance(fields.get(field), str):  # its password and its query are left out
            address = urlsplit(fields[field])
            fields[field] = f"{address.scheme}://{address.hostname}:{address.port}{address.path}"
    return {"provider": entry.provider, **_strip_secrets(fields)}


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
