"""An entry of `models:` as it is used: its options, the defaults applied, and what is missing before a call."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelhub.config.interpolate import UnresolvedReference
from modelhub.config.schema import ApiKeyOptions
from modelhub.options import ProviderOptions

__all__ = ["KeyEntry", "ModelEntry", "add_keys", "describe_missing"]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One entry of `models:`, with the defaults applied.

    `keys` are the keys of the model if it has several, `call_key` is the name of the one that comes with each call.
    `options` builds the provider; it is None if a missing value prevents that. `layers` has every layer's options by
    its key, None where the file has none; that of `limit` may be a pool's name. `missing` says what to do before the
    model can be called ("set OPENAI_API_KEY"), or is None; `unset` has the unresolved references. `line` is where the
    entry begins, 0 without a file.
    """

    name: str
    provider: str
    options: ProviderOptions | None = field(repr=False)  # a client's headers may be a secret
    layers: Mapping[str, Any]
    missing: str | None = None
    unset: tuple[UnresolvedReference, ...] = ()
    line: int = 0
    keys: tuple[KeyEntry, ...] = ()
    call_key: str | None = None

    def list_variants(self) -> list[tuple[str, ModelEntry]]:
        """Return the model once for each of its keys, by the labels of these; by its name if it has but one."""
        return [(key.label, key.entry) for key in self.keys] or [(self.name, self)]


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One of several keys of a model: *entry* is the model with this key and its limit.

    *label* is what records call it, such as `gpt#1`, and *identity* what stays the same when other keys come and go.
    """

    label: str
    weight: float
    entry: ModelEntry
    identity: str = field(repr=False)


def add_keys(entry: ModelEntry, keys: Sequence[ApiKeyOptions]) -> ModelEntry:
    """Return *entry* with *keys*; what is missing for one of them is missing for that key alone."""
    model = replace(entry, unset=tuple(item for item in entry.unset if _find_position(item) is None))
    model = replace(model, missing=describe_missing(model.unset, None, {}))
    entries = tuple(
        _make_key(model, position, key, tuple(item for item in entry.unset if _find_position(item) == position))
        for position, key in enumerate(keys)
    )
    missing = list(dict.fromkeys(key.entry.missing for key in entries))
    if None in missing:
        return replace(model, keys=entries)
    return replace(model, keys=entries, missing=" or ".join(text for text in missing if text is not None))


def _find_position(reference: UnresolvedReference) -> int | None:
    """Return which of the model's keys, from 0, *reference* belongs to; None if it is the whole model's."""
    _, _, *path = reference.path
    return path[1] if len(path) > 1 and path[0] == "keys" and isinstance(path[1], int) else None


def _make_key(model: ModelEntry, position: int, key: ApiKeyOptions, unset: tuple[UnresolvedReference, ...]) -> KeyEntry:
    name = key.name or str(position + 1)
    secret = key.api_key.get_secret_value()
    missing = model.missing or describe_missing(unset, None, {}) or (None if secret else "give it a key")
    options = model.options.model_copy(update={"api_key": key.api_key}) if model.options is not None else None
    layers = {**model.layers, "limit": key.limit} if key.limit is not None else model.layers
    entry = replace(model, options=options, layers=layers, missing=missing, unset=(*model.unset, *unset))
    # An unnamed key that is known keeps its tags wherever it stands; nothing can be read from the hash of one.
    is_known = key.name is None and not missing
    identity = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest() if is_known else name
    return KeyEntry(f"{model.name}#{name}", key.weight, entry, f"{model.name}#{identity}")


def describe_missing(
    unset: tuple[UnresolvedReference, ...], options: ProviderOptions | None, environ: Mapping[str, str]
) -> str | None:
    """Return what must be done before the model can be called, such as "set OPENAI_API_KEY", or None."""
    instructions = list(dict.fromkeys(item.instruction for item in unset))
    names_key = any(item.path[-1] == "api_key" for item in unset)
    instruction = options.missing(environ) if options is not None and not names_key else None
    if instruction is not None and instruction not in instructions:
        instructions.append(instruction)
    return _join_instructions(instructions) or None


def _join_instructions(instructions: list[str]) -> str:
    """Join instructions to one text: "set A" and "set B" become "set A and B"."""
    text = ""
    for item in instructions:
        verb, _, thing = item.partition(" ")
        text += f" and {thing if text.startswith(verb) else item}" if text else item
    return text
