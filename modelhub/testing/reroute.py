"""A configuration whose models all speak to the fault server: no vendor is asked, and no key is needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from modelhub.core.errors import ConfigError

if TYPE_CHECKING:
    from modelhub.config.load import Loaded, ModelEntry
    from modelhub.testing.server import FaultServer

__all__ = ["STAND_IN_KEY", "rerouted"]

Config = Mapping[str, Any] | str | os.PathLike[str]

STAND_IN_KEY = "stand-in-key"
"""The key that rerouted models send."""
_STAND_IN = "1"  # for variables: a text, and a number too
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")


_ARGS = ("client_args", "client_kwargs")
_REMOVED = frozenset(
    {
        *("base_url", "azure_endpoint", "vertexai", "enterprise", "project", "location"),
        *("api_key", "auth_token", "credentials", "config", "profile", "provider"),
        *("workload_identity", "azure_ad_token", "azure_ad_token_provider"),
        *("http_client", "proxy", "proxies", "mounts", "transport"),
    }
)
"""What a client's arguments may say of other addresses, other ways there, or other credentials."""


def rerouted(
    config: Loaded | Config, server: FaultServer, *, environ: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """*config* with every model's address at *server*, each at the route of its own name, and a stand-in key.

    *config* is a file's path, a dict of its form, or what was loaded already. Variables that *environ* does not have
    get a stand-in. Scripted models stay as they are. `Hub.from_dict(rerouted(...), environ={})` is the hub.

    Raises ConfigError for what is wrong with the file, and for a provider whose address cannot be changed.
    """
    loaded = _load(config, environ or {})
    found = {key: _plain(getattr(loaded.config, key)) for key in loaded.config.model_fields_set - {"defaults"}}
    # The defaults are in the entries already.
    found["models"] = {name: _rerouted(entry, loaded, server) for name, entry in loaded.models.items()}
    return found


def _load(config: Loaded | Config, environ: Mapping[str, str]) -> Loaded:
    from modelhub.config import load

    if isinstance(config, load.Loaded):
        return config
    if isinstance(config, Mapping):
        return load.load_dict(config, environ={**_stand_ins(config), **environ})
    # A first look, for the names of the variables; a file that cannot be read is told by the second one.
    try:
        with open(config, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a path of any kind
            text = file.read()
    except OSError:
        text = ""
    return load.load_file(config, environ={**_stand_ins(text), **environ})


def _stand_ins(data: Any) -> dict[str, str]:
    """A value for every variable in *data* that has no default."""
    return {name: _STAND_IN for text in _texts(data) for name in _VARIABLE.findall(text)}


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _texts(value)


def _plain(value: Any) -> Any:
    """*value* as a file would say it: options as mappings of what was set, secrets as a stand-in."""
    from pydantic import BaseModel, SecretStr

    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in value.model_fields_set}
    if isinstance(value, SecretStr):
        return STAND_IN_KEY
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, str):
        return value.replace("${", "$${")  # what looks like a reference now is none, or leads nowhere
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _rerouted(entry: ModelEntry, loaded: Loaded, server: FaultServer) -> dict[str, Any]:
    config = loaded.config.models[entry.name]
    if entry.options is None or config is None:
        raise ConfigError(f"model `{entry.name}` cannot be rerouted: {entry.missing or 'it is not configured'}")
    found: dict[str, Any] = _plain(config)
    if entry.provider == "scripted":
        return found
    known, (address, *aliases) = type(entry.options).model_fields, entry.options.address_fields
    if address not in known:
        raise ConfigError(f"model `{entry.name}`: the provider `{entry.provider}` has no `{address}` to change")
    for args in _ARGS:
        if isinstance(found.get(args), dict):
            found[args] = {key: value for key, value in found[args].items() if key not in _REMOVED}
    found |= entry.options.fields_at_another_address(found)
    found = {key: value for key, value in found.items() if key not in aliases}
    found[address] = server.url(entry.name) + entry.options.address_path
    if "api_key" in known:
        found["api_key"] = STAND_IN_KEY
    return found
