"""A configuration as an application hands it over, to copy it, and to see whether it may leave the process.

References to secrets may, secrets that are written out may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelhub.config.secrets import guess_line_masks, is_plain_key_field, is_reference, is_secret

__all__ = ["copy_plain", "find_literal_secrets"]


def copy_plain(data: Any) -> Any:
    """Copy the dicts and lists in *data*; other objects, such as HTTP clients, are kept as they are."""
    if isinstance(data, Mapping):
        return {str(key): copy_plain(value) for key, value in data.items()}
    return [copy_plain(value) for value in data] if isinstance(data, list | tuple) else data


def find_literal_secrets(config: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the dotted path of every secret in *config* that is written out instead of as a reference like `${VAR}`."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from find_literal_secrets(value, (*path, str(key)))
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            yield from find_literal_secrets(value, (*path, str(index)))
    elif isinstance(config, str) and _is_secret_text(config, path):
        yield ".".join(path)


def _is_secret_text(text: str, path: tuple[str, ...]) -> bool:
    if not text or is_reference(text):
        return False
    has_secret_key = any(is_secret(key) for key in path) and not is_plain_key_field(path)
    return has_secret_key or bool(guess_line_masks(text))
