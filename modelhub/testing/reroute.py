"""Reroute a configuration's models to the fault server, so that no vendor is contacted and no key is needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelhub.core.errors import ConfigError
from modelhub.middleware.limit.rates import Rate

if TYPE_CHECKING:
    from modelhub.config.load import Loaded, ModelEntry
    from modelhub.testing.server import FaultServer

__all__ = ["STAND_IN_KEY", "reroute_config"]

Config = Mapping[str, Any] | str | os.PathLike[str]

STAND_IN_KEY = "stand-in-key"
"""The key that rerouted models send."""
_STAND_IN_VALUE = "1"  # for variables: valid as text and as a number
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_ADDRESS_VARIABLE = re.compile(r"\burl:\s*[\"']?\$\{([A-Za-z_]\w*)\}")  # that of `shared:` in the text of a file
_ARGUMENT_FIELDS = ("client_args", "client_kwargs")
_REMOVED_ARGUMENTS = frozenset(
    {
        *("base_url", "azure_endpoint", "vertexai", "enterprise", "project", "location"),
        *("api_key", "auth_token", "credentials", "config", "profile", "provider"),
        *("workload_identity", "azure_ad_token", "azure_ad_token_provider"),
        *("http_client", "proxy", "proxies", "mounts", "transport"),
    }
)
"""Arguments of clients that set addresses, proxies or credentials."""


def reroute_config(
    config: Loaded | Config,
    server: FaultServer,
    *,
    environ: Mapping[str, str] | None = None,
    profile: str | None = None,
) -> dict[str, Any]:
    """*config* with every model's address at *server*, each at the route of its own name, and a stand-in key.

    *config* is a path, a dict with the structure of a file, or a loaded configuration. Variables that *environ* lacks
    get a stand-in. *profile* is the profile of the file that applies. Scripted models are not changed. A model with
    several keys becomes a chain of that name, with a model for each key, `gpt.key-1` or `gpt.key-NAME`, so that each
    key has a route. Limits and budgets are not `shared`. `Hub.from_dict(reroute_config(...), environ={})` makes
    the hub.

    Raises ConfigError for an invalid file, and for a provider whose address cannot be changed.
    """
    loaded = _load_config(config, environ or {}, profile)
    # The defaults are merged into the entries already, and nothing is shared with processes that are not under test.
    keys = loaded.config.model_fields_set - {"defaults", "shared"}
    sections = {key: _to_plain(getattr(loaded.config, key)) for key in keys}
    sections["models"], sections["chains"] = {}, {**sections.get("chains", {})}
    for name, entry in loaded.models.items():
        if not entry.keys:
            sections["models"][name] = _reroute_entry(entry, loaded, server, name)
            continue
        labels = {key.label.replace("#", ".key-"): key for key in entry.keys}
        sections["models"] |= {label: _reroute_entry(key.entry, loaded, server, label) for label, key in labels.items()}
        place = {"arms": {label: key.weight for label, key in labels.items()}}
        sections["chains"][name] = {"models": [place], "stream": loaded.config.models[name].stream}
    server.add_models(sections["models"])
    return sections


def _load_config(config: Loaded | Config, environ: Mapping[str, str], profile: str | None) -> Loaded:
    from modelhub.config import load

    if isinstance(config, load.Loaded):
        return config
    if isinstance(config, Mapping):
        return load.load_dict(
            config, environ={**_make_stand_ins(config), **environ}, profile=profile, runs_commands=False
        )
    # Read for the names of the variables first, with the files that are included, as far as they are known.
    files: set[Path] = {Path(config)}
    while True:
        known = set(files)
        texts = []
        for file in known:
            with suppress(OSError):  # reported by `load_file`
                texts.append(file.read_text(encoding="utf-8", errors="replace"))
        variables = _make_stand_ins(texts)
        try:
            loaded = load.load_file(
                config, environ={**variables, **environ}, profile=profile, files=files, runs_commands=False
            )
        except ConfigError:
            if files == known:
                raise
        else:
            if files == known:
                return loaded


def _make_stand_ins(data: Any) -> dict[str, str]:
    """Return a value for every variable in *data* without a default."""
    texts = list(_walk_texts(data))
    values = {name: _STAND_IN_VALUE for text in texts for name in _VARIABLE.findall(text)}
    addresses = (name for text in texts for name in _ADDRESS_VARIABLE.findall(text))
    shared = data.get("shared") if isinstance(data, Mapping) else None
    names = [*addresses, *_VARIABLE.findall(str(shared.get("url")) if isinstance(shared, Mapping) else "")]
    return values | dict.fromkeys(names, "redis://localhost")


def _walk_texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _walk_texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _walk_texts(value)


def _to_plain(value: Any) -> Any:
    """Return *value* as in a file: options as mappings of the fields that are set, secrets as a stand-in."""
    from pydantic import BaseModel, SecretStr

    if isinstance(value, BaseModel):
        names = {name: field.alias or name for name, field in type(value).model_fields.items()}
        return {names[name]: _to_plain(getattr(value, name)) for name in value.model_fields_set}
    if isinstance(value, SecretStr):
        return STAND_IN_KEY
    if isinstance(value, Rate):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _to_plain(inner) for key, inner in value.items()}
    if isinstance(value, str):
        return value.replace("${", "$${")  # references are resolved already
    return [_to_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _reroute_entry(entry: ModelEntry, loaded: Loaded, server: FaultServer, route: str) -> dict[str, Any]:
    config = loaded.config.models[entry.name]
    if entry.options is None or config is None:
        raise ConfigError(f"model `{entry.name}` cannot be rerouted: {entry.missing or 'it is not configured'}")
    fields: dict[str, Any] = {key: value for key, value in _to_plain(config).items() if key != "keys"}
    if entry.layers.get("limit") is not None:
        fields["limit"] = _to_plain(entry.layers["limit"])  # a key may have its own
    if entry.provider == "scripted":
        return fields
    model_fields, (address, *aliases) = type(entry.options).model_fields, entry.options.address_fields
    if address not in model_fields:
        raise ConfigError(f"model `{entry.name}`: the provider `{entry.provider}` has no `{address}` to change")
    for args in _ARGUMENT_FIELDS:
        if isinstance(fields.get(args), dict):
            fields[args] = {key: value for key, value in fields[args].items() if key not in _REMOVED_ARGUMENTS}
    fields |= entry.options.fields_at_another_address(fields)
    fields = {key: value for key, value in fields.items() if key not in aliases}
    fields[address] = server.url(route) + entry.options.address_path
    if "api_key" in model_fields:
        fields["api_key"] = STAND_IN_KEY
    return fields
