"""Attributes of spans and metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from modelhub.core.response import ChatUsage
from modelhub.telemetry import names

if TYPE_CHECKING:
    from modelhub.core.model import ChatModelBase

__all__ = [
    "Attributes",
    "ModelAttributes",
    "drop_unknown",
    "make_model_attributes",
    "make_parameter_attributes",
    "make_usage_attributes",
]

_PORTS = {"http": 80, "https": 443}

Attributes = dict[str, Any]


class ModelAttributes(NamedTuple):
    """The attributes of a model that are the same for every request: vendor, server address, default parameters."""

    provider_name: str | None
    server: Attributes
    parameters: Attributes


def drop_unknown(attributes: Attributes) -> Attributes:
    """Return *attributes* without those that are None."""
    return {name: value for name, value in attributes.items() if value is not None}


def make_usage_attributes(usage: ChatUsage | None) -> Attributes:
    """Return the attributes of an attempt's *usage*; a value may be None."""
    if usage is None:
        return {}
    return {
        names.USAGE_INPUT: usage["input_tokens"],
        names.USAGE_OUTPUT: usage["output_tokens"],
        names.USAGE_CACHE_READ: usage["cache_read_tokens"] or None,
        names.USAGE_CACHE_WRITE: usage["cache_write_tokens"] or None,
        names.USAGE_REASONING: usage["reasoning_tokens"] or None,
        names.ESTIMATED: usage["estimated"] or None,
    }


def make_model_attributes(provider: ChatModelBase) -> ModelAttributes:
    """Return the attributes of *provider* that do not depend on a request; of its address, the host and the port."""
    parameters = make_parameter_attributes(provider.default_parameters())
    host = port = None
    with contextlib.suppress(ValueError):  # an address that cannot be parsed
        parts = urlsplit(provider.address() or "")
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    server = drop_unknown({names.SERVER_ADDRESS: host, names.SERVER_PORT: port if host else None})
    return ModelAttributes(provider.telemetry_name, server, parameters)


def make_parameter_attributes(parameters: Mapping[str, Any]) -> Attributes:
    """Return the numeric *parameters* for which the conventions have an attribute."""
    return {
        name: parameters[key]
        for key, name in names.PARAMETERS.items()
        if isinstance(parameters.get(key), int | float) and not isinstance(parameters[key], bool)
    }
