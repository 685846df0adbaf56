"""Read a file: YAML text to positions to checked options, with every problem at once."""

from __future__ import annotations

import difflib
import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel

from modelhub.config import source
from modelhub.config.budgets import check_budgets
from modelhub.config.check import OptionsChecker
from modelhub.config.contradictions import check_failures, check_model
from modelhub.config.entries import ModelEntry, Resolved, resolve
from modelhub.config.hints import missing_key, misspelt, model_in
from modelhub.config.interpolate import UnresolvedReference, fill
from modelhub.config.origins import Origin, origins_of
from modelhub.config.problems import Report, Source
from modelhub.config.references import check_chains, check_limit, check_names, check_pool
from modelhub.config.schema import VERSIONS, HubConfig, defaults_class
from modelhub.config.source import Document, Path
from modelhub.config.view import LocatedData, where
from modelhub.core.errors import ConfigError, Problem, UnknownModel
from modelhub.core.tracebacks import raises_without_frames
from modelhub.middleware.chain.options import ChainOptions
from modelhub.middleware.limit.options import LimitOptions

__all__ = ["Loaded", "ModelEntry", "Origin", "UnresolvedReference", "copy_plain", "load_dict", "load_file", "load_text"]

_NAMED = ("models", "chains", "limits", "budgets")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that can be used. `file` is its name, empty for configuration from a dict."""

    file: str
    config: HubConfig = field(repr=False)
    models: Mapping[str, ModelEntry]
    chains: Mapping[str, ChainOptions]
    limits: Mapping[str, LimitOptions]
    lines: Mapping[str, int] = field(default_factory=dict)
    """Where each model and chain begins."""
    _document: Document | None = field(default=None, repr=False)
    _origins: Mapping[str, tuple[Origin, ...]] = field(default_factory=dict, repr=False)

    def problem(self, path: Path, message: str, hint: str = "") -> Problem:
        """Return a problem with the value at *path* of the file, or with what is around it if it is not there."""
        if self._document is None:
            return Problem(message, self.file, hint=hint)
        span = self._document.span(_written_path(self._document, path)) if path else None
        return Report(self._document.source).problem(span, message, hint)

    def origins(self, name: str) -> list[Origin]:
        """Every value of the model or chain *name* and where it comes from. Raises UnknownModel."""
        if name not in self._origins:
            close = difflib.get_close_matches(name, self._origins, 1)
            meant = f"; did you mean `{close[0]}`?" if close else ""
            raise UnknownModel(f"no model or chain `{name}`{meant} (there are: {', '.join(self._origins)})")
        return list(self._origins[name])


def _written_path(document: Document, path: Path) -> Path:
    """Return *path* with the name that the file has for a key which has several."""
    for key in path:
        for others in _SAME_KEYS:
            for other in others if key in others else ():
                written = tuple(other if part == key else part for part in path)
                if written in document.places:
                    return written
    return path


_SAME_KEYS = (("client_args", "client_kwargs"), ("base_url", "host", "base_http_api_url"))


@raises_without_frames(ConfigError)
def load_file(path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in the file at *path*; *environ* is the process's own if not given.

    Raises ConfigError with every problem of the file, also if it cannot be read.
    """
    name = os.fspath(path)
    try:
        content = FilePath(path).read_bytes()
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise ConfigError([Problem(f"the file cannot be read: {reason}", name)]) from error
    return load_text(_decoded(content, name), name, environ=environ)


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
    # Not raised inside: that error holds the whole file, keys and all.
    raise ConfigError([Problem("this line is not UTF-8 text", name, line, hint="save the file as UTF-8")])


@raises_without_frames(ConfigError)
def load_text(text: str, file: str = "models.yaml", *, environ: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in *text*, which problems call *file*; `${file:...}` is looked for beside it.

    Raises ConfigError with every problem.
    """
    with _collection_paused(when=len(text) > _LARGE_FILE):
        document, report = source.parse(text, file)
        return _load(document, report, environ, FilePath(file).parent)


_LARGE_FILE = 100_000


@contextmanager
def _collection_paused(*, when: bool) -> Iterator[None]:
    """Collect no cyclic garbage meanwhile: for the objects of a large file that takes as long as making them."""
    pauses = when and gc.isenabled()
    if pauses:
        gc.disable()
    try:
        yield
    finally:
        if pauses:
            gc.enable()


@raises_without_frames(ConfigError)
def load_dict(data: Mapping[str, Any], *, environ: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in *data*, which has the file's form. Raises ConfigError with every problem."""
    document = Document(Source(""), copy_plain(data))
    return _load(document, Report(document.source), environ, FilePath())


def copy_plain(data: Any) -> Any:
    """*data* with dicts and lists of our own; anything else is left as it is, for the vendor's client."""
    if isinstance(data, Mapping):
        return {str(key): copy_plain(value) for key, value in data.items()}
    return [copy_plain(value) for value in data] if isinstance(data, list | tuple) else data


def _load(document: Document, report: Report, environ: Mapping[str, str] | None, folder: FilePath) -> Loaded:
    known = os.environ if environ is None else environ
    checker = OptionsChecker(document, fill(document, known, folder, report), report)
    if not isinstance(document.data, dict):
        checker.problem((), "the configuration must be a mapping")
        report.check()
    sections = _sections(checker)
    resolved = {
        name: resolve(checker, name, entry, known)
        for name, entry in sections["models"].items()
        if isinstance(entry, dict)
    }
    config = _config(checker, sections, resolved)
    for model in resolved.values():
        check_limit(checker, model.view, sections["limits"])
        check_model(checker, model)
    check_names(checker, {section: sections[section] for section in _NAMED})
    check_chains(checker, sections["chains"], sections["models"])
    check_failures(checker, {name: chain for name, chain in sections["chains"].items() if isinstance(chain, dict)})
    check_budgets(checker, sections, resolved)
    _refuse_unset(checker)
    report.check()
    return _loaded(checker, config, resolved)


def _sections(checker: OptionsChecker) -> dict[str, dict[str, Any]]:
    """The named sections as mappings, an empty one for what is not there or wrong."""
    data = checker.filled.data
    for key in data:
        if key not in HubConfig.model_fields and not checker.report.is_full:
            _unknown_section(checker, key, data[key])
    _check_version(checker)
    sections = {key: _mapping(checker, (key,)) for key in (*_NAMED, "defaults")}
    if data.get("models", {}) == {} and not misspelt("models", data, HubConfig):
        _no_models(checker)
    for key in _NAMED:
        for name in sections[key]:
            _mapping(checker, (key, name))
    return sections


def _unknown_section(checker: OptionsChecker, key: str, value: Any) -> None:
    """Tell an unknown key of the top level; what is only not indented is told so."""
    for mark, section in (("provider", "models"), ("models", "chains")):
        if isinstance(value, dict) and mark in value:
            kind = "model" if section == "models" else "chain"
            hint = f"a {kind} belongs under `{section}:`"
            checker.problem((key,), f"unknown key `{key}` in the file", hint, key=True)
            return
    checker.unknown((key,), HubConfig)


def _check_version(checker: OptionsChecker) -> None:
    data = checker.filled.data
    if misspelt("version", data, HubConfig):
        return
    if "version" not in data:
        checker.problem((), "the file has no `version`", missing_key("version", HubConfig), key=True)
    elif ("version",) in checker.document.empty:
        checker.problem(("version",), "`version` has no value", missing_key("version", HubConfig), key=True)
    elif isinstance(data["version"], bool) or data["version"] not in VERSIONS:
        known = ", ".join(str(version) for version in VERSIONS)
        message = f"{checker.subject(('version',))} is not supported (supported: {known})"
        checker.problem(("version",), message, f"did you mean `version: {VERSIONS[-1]}`?")


def _mapping(checker: OptionsChecker, path: Path) -> dict[str, Any]:
    """The mapping at *path*; an empty one, and a problem, if something else stands there."""
    value = checker.filled.data
    for part in path:
        if part not in value:
            return {}
        value = value[part]
    if isinstance(value, dict):
        return value
    if path in checker.document.empty:
        hint = "indent what belongs to it, or remove it"
        checker.problem(path, f"{where(path)} is empty", hint, key=True)
    else:
        kind = "a list" if isinstance(value, list) else "a single value"
        checker.problem(path, f"{where(path)} must be a mapping (`key: value`), not {kind}", _mapping_hint(path, value))
    return {}


def _mapping_hint(path: Path, value: Any) -> str:
    if isinstance(value, list) and path[0] == "chains" and len(path) == 2:
        return "did you mean `models: [...]`?"
    if isinstance(value, list) and len(path) == 1 and path[0] in _NAMED:
        return f"write a name before each of the {path[0]}: `name: {{...}}`"
    return ""


def _no_models(checker: OptionsChecker) -> None:
    if "models" not in checker.filled.data:
        checker.problem((), "the file has no `models`", missing_key("models", HubConfig), key=True)
    else:
        checker.problem(("models",), "`models` is empty", missing_key("models", HubConfig), key=True)


def _config(
    checker: OptionsChecker, sections: Mapping[str, Mapping[str, Any]], resolved: Mapping[str, Resolved]
) -> HubConfig:
    """The checked file. A section that is one more field of HubConfig is checked by the class of that field."""
    values: dict[str, Any] = {
        "version": VERSIONS[-1],
        "defaults": _checked(checker, ("defaults",), defaults_class()),
        "models": {name: model.config for name, model in resolved.items()},
    }
    for key, info in HubConfig.model_fields.items():
        cls = model_in(info.annotation)
        if cls is None or key in values:
            continue
        if key in sections:
            entries = {name: entry for name, entry in sections[key].items() if isinstance(entry, dict)}
            values[key] = {name: _checked(checker, (key, name), cls) for name in entries}
        elif key in checker.filled.data:
            values[key] = _checked(checker, (key,), cls)
    return HubConfig.model_construct(**values)


def _checked(checker: OptionsChecker, path: Path, cls: type[BaseModel]) -> BaseModel | None:
    data = _mapping(checker, path)
    options = checker.validate(cls, LocatedData(data, {(): path}))
    if cls is LimitOptions:
        check_pool(checker, path, data)
    return options


def _refuse_unset(checker: OptionsChecker) -> None:
    """Outside models, nothing can be skipped: a reference that leads nowhere is a problem."""
    for path, missing in checker.filled.unset.items():
        if path[0] not in {"models", "defaults"}:
            message = f"{checker.subject(path)} cannot be filled in: {missing[0].what}"
            checker.problem(path, message, "or give a default: ${VAR:-default}")


def _loaded(checker: OptionsChecker, config: HubConfig, resolved: Mapping[str, Resolved]) -> Loaded:
    origins = {name: origins_of(checker, model.view, model.config) for name, model in resolved.items()}
    for name, chain in config.chains.items():
        view = LocatedData(checker.filled.data["chains"][name], {(): ("chains", name)})
        origins[name] = origins_of(checker, view, chain)
    places = {name: (section, name) for section in ("models", "chains") for name in getattr(config, section)}
    return Loaded(
        file=checker.document.source.file,
        config=config,
        models={name: model.entry for name, model in resolved.items()},
        chains=config.chains,
        limits=config.limits,
        lines={name: checker.document.line(path) for name, path in places.items()},
        _document=checker.document,
        _origins=origins,
    )
