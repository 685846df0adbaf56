"""Load a configuration: YAML text to validated options, with every problem reported at once."""

from __future__ import annotations

import gc
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from modelhub.config.budgets import check_budgets
from modelhub.config.check import OptionsChecker
from modelhub.config.commands import COMMAND_TIMEOUT, make_runner, pretend_to_run
from modelhub.config.contradictions import check_failures, check_model
from modelhub.config.entries import ModelEntry, Resolved, resolve_entry
from modelhub.config.hints import find_misspelt_key, suggest_missing_key
from modelhub.config.including import ReadFile, apply_profile, include_files, read_text
from modelhub.config.interpolate import UnresolvedReference, interpolate
from modelhub.config.loaded import Loaded
from modelhub.config.origins import Origin, trace_origins
from modelhub.config.problems import Report, Source
from modelhub.config.references import check_chains, check_limit, check_names, check_pool, check_served
from modelhub.config.schema import VERSIONS, HubConfig, SecretsOptions, find_model_class, make_defaults_class
from modelhub.config.source import Document, Path, parse_document
from modelhub.config.view import LocatedData, describe_path, get_value
from modelhub.core.tracebacks import raises_without_frames
from modelhub.middleware.limit.options import LimitOptions
from modelhub.version import install_command

__all__ = ["Loaded", "ModelEntry", "Origin", "UnresolvedReference", "copy_plain", "load_dict", "load_file", "load_text"]

_LARGE_FILE_CHARS = 100_000
_NAMED_SECTIONS = ("models", "chains", "limits", "budgets")


@raises_without_frames
def load_file(
    path: str | os.PathLike[str],
    *,
    environ: Mapping[str, str] | None = None,
    profile: str | None = None,
    name: str | None = None,
    files: set[FilePath] | None = None,
    runs_commands: bool = True,
) -> Loaded:
    """Load the configuration in the file at *path*. *environ* defaults to the process's environment.

    *profile* is the one of its profiles that applies, by default the one that $MODELHUB_PROFILE names. Problems call
    the file *name*, by default as *path* does. Every file that is read, or looked for, is added to *files*, if there is
    an error too. Without *runs_commands*, no command of a `${cmd:...}` is run: something stands for what it prints.
    Raises ConfigError with every problem of the file, or if it cannot be read.
    """
    file = ReadFile(FilePath(path), os.fspath(path) if name is None else name)
    inputs = _Inputs(
        os.environ if environ is None else environ, profile, set() if files is None else files, runs_commands
    )
    inputs.files.add(file.path)
    return _load_text(read_text(file.path, file.name), file, inputs)


@raises_without_frames
def load_text(
    text: str, file: str = "models.yaml", *, environ: Mapping[str, str] | None = None, profile: str | None = None
) -> Loaded:
    """Load the configuration in *text*. Problems name *file*, and relative paths in it start from its folder.

    *environ* and *profile* are those of `load_file`. Raises ConfigError with every problem.
    """
    inputs = _Inputs(os.environ if environ is None else environ, profile, set())
    return _load_text(text, ReadFile(FilePath(file), file), inputs)


class _Inputs(NamedTuple):
    """What a configuration depends on besides its text; *files* gets every file that is read, or looked for."""

    environ: Mapping[str, str]
    profile: str | None
    files: set[FilePath]
    runs_commands: bool = True


def _load_text(text: str, file: ReadFile, inputs: _Inputs) -> Loaded:
    pauses_collection = len(text) > _LARGE_FILE_CHARS and gc.isenabled()
    if pauses_collection:
        gc.disable()  # for a large file, collecting cyclic garbage takes as long as loading
    try:
        document, report = parse_document(text, file.name, file.path.parent)
        return _load_document(document, report, file, inputs)
    finally:
        if pauses_collection:
            gc.enable()


@raises_without_frames
def load_dict(
    data: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    profile: str | None = None,
    files: set[FilePath] | None = None,
    runs_commands: bool = True,
) -> Loaded:
    """Load the configuration in *data*, which has the structure of a file; the rest is as in `load_file`.

    Raises ConfigError with every problem.
    """
    report = Report(Source(""))
    document = Document(report.sources, copy_plain(data))
    inputs = _Inputs(
        os.environ if environ is None else environ, profile, set() if files is None else files, runs_commands
    )
    return _load_document(document, report, ReadFile(FilePath("config"), ""), inputs)


def copy_plain(data: Any) -> Any:
    """Copy the dicts and lists in *data*; other objects, such as HTTP clients, are kept as they are."""
    if isinstance(data, Mapping):
        return {str(key): copy_plain(value) for key, value in data.items()}
    return [copy_plain(value) for value in data] if isinstance(data, list | tuple) else data


def _load_document(document: Document, report: Report, file: ReadFile, inputs: _Inputs) -> Loaded:
    profile, profiles = inputs.profile, ()
    if isinstance(document.data, dict):
        document = include_files(document, report, inputs.files, [file])
        profiles = tuple(document.data.get("profiles") or ())
        document, profile = apply_profile(document, report, profile, inputs.environ)
    return replace(_resolve_document(document, inputs, profile, report), profiles=profiles)


def _resolve_document(document: Document, inputs: _Inputs, profile: str | None, report: Report | None = None) -> Loaded:
    """Resolve the references of *document*, which includes everything, and validate it; *report* has its problems."""
    report = Report(*document.sources) if report is None else report
    run = make_runner(inputs.environ, _find_timeout(document.data)) if inputs.runs_commands else pretend_to_run
    checker = OptionsChecker(document, interpolate(document, inputs.environ, report, inputs.files, run), report)
    if not isinstance(document.data, dict):
        checker.problem((), "the configuration must be a mapping")
        report.check()
    sections = _read_sections(checker)
    resolved = {
        name: resolve_entry(checker, name, entry, inputs.environ)
        for name, entry in sections["models"].items()
        if isinstance(entry, dict)
    }
    config = _make_config(checker, sections, resolved)
    _check_sections(checker, sections, resolved)
    report.check()
    loaded = _make_loaded(checker, config, resolved)
    return replace(loaded, profile=profile, _resolve=partial(_resolve_document, document, inputs, profile))


def _find_timeout(data: Any) -> float:
    """Return how many seconds a command may take; what is wrong with the section is reported when it is validated."""
    options = data.get("secrets") if isinstance(data, dict) else None
    try:
        return SecretsOptions.model_validate(options or {}).timeout
    except ValidationError:
        return COMMAND_TIMEOUT


def _read_sections(checker: OptionsChecker) -> dict[str, dict[str, Any]]:
    """Return the named sections as mappings; a section that is absent or invalid is empty."""
    data = checker.interpolated.data
    for key in data:
        if key not in HubConfig.model_fields and not checker.report.is_full:
            _report_unknown_section(checker, key, data[key])
    _check_version(checker)
    sections = {key: _read_mapping(checker, (key,)) for key in (*_NAMED_SECTIONS, "defaults")}
    if data.get("models", {}) == {} and not find_misspelt_key("models", data, HubConfig):
        message = "`models` is empty" if "models" in data else "the file has no `models`"
        path: Path = ("models",) if "models" in data else ()
        checker.problem(path, message, suggest_missing_key("models", HubConfig), key=True)
    for key in _NAMED_SECTIONS:
        for name in sections[key]:
            _read_mapping(checker, (key, name))
    return sections


def _report_unknown_section(checker: OptionsChecker, key: str, value: Any) -> None:
    """Report an unknown key of the top level; a model or chain that is not indented gets a hint."""
    for characteristic_key, section, kind in (("provider", "models", "model"), ("models", "chains", "chain")):
        if isinstance(value, dict) and characteristic_key in value:
            hint = f"a {kind} belongs under `{section}:`"
            checker.problem((key,), f"unknown key `{key}` in the file", hint, key=True)
            return
    checker.unknown((key,), HubConfig)


def _check_version(checker: OptionsChecker) -> None:
    data = checker.interpolated.data
    if find_misspelt_key("version", data, HubConfig):
        return
    if "version" not in data:
        checker.problem((), "the file has no `version`", suggest_missing_key("version", HubConfig), key=True)
    elif ("version",) in checker.document.empty:
        checker.problem(("version",), "`version` has no value", suggest_missing_key("version", HubConfig), key=True)
    elif data["version"] == f"{VERSIONS[-1]}" and ("version",) not in checker.interpolated.from_environment:
        checker.problem(("version",), f'`version: "{data["version"]}"` must be a number', "write it without quotes")
    elif isinstance(data["version"], bool) or data["version"] not in VERSIONS:
        known = ", ".join(str(version) for version in VERSIONS)
        message = f"{checker.subject(('version',))} is not supported (supported: {known})"
        checker.problem(("version",), message, f"did you mean `version: {VERSIONS[-1]}`?")


def _read_mapping(checker: OptionsChecker, path: Path) -> dict[str, Any]:
    """Return the mapping at *path*. If the value is something else, report it and return an empty mapping."""
    value = checker.interpolated.data
    for part in path:
        if part not in value:
            return {}
        value = value[part]
    if isinstance(value, dict):
        return value
    if path in checker.document.empty:
        hint = "indent what belongs to it, or remove it"
        checker.problem(path, f"{describe_path(path)} is empty", hint, key=True)
    else:
        is_list, hint = isinstance(value, list), ""
        if is_list and path[0] == "chains" and len(path) == 2:
            hint = "did you mean `models: [...]`?"
        elif is_list and len(path) == 1 and path[0] in _NAMED_SECTIONS:
            hint = f"write a name before each of the {path[0]}: `name: {{...}}`"
        kind = "a list" if is_list else "a single value"
        checker.problem(path, f"{describe_path(path)} must be a mapping (`key: value`), not {kind}", hint)
    return {}


def _make_config(
    checker: OptionsChecker, sections: Mapping[str, Mapping[str, Any]], resolved: Mapping[str, Resolved]
) -> HubConfig:
    """Return the validated file. Each section is validated by the class of its field in HubConfig."""
    values: dict[str, Any] = {
        "version": VERSIONS[-1],
        "defaults": _check_section(checker, ("defaults",), make_defaults_class()),
        "models": {name: model.config for name, model in resolved.items()},
    }
    for key, info in HubConfig.model_fields.items():
        cls = find_model_class(info.annotation)
        if cls is None or key in values:
            continue
        if key in sections:
            entries = {name: entry for name, entry in sections[key].items() if isinstance(entry, dict)}
            values[key] = {name: _check_section(checker, (key, name), cls) for name in entries}
        elif key in checker.interpolated.data:
            values[key] = _check_section(checker, (key,), cls)
    return HubConfig.model_construct(**values)


def _check_section(checker: OptionsChecker, path: Path, cls: type[BaseModel]) -> BaseModel | None:
    data = _read_mapping(checker, path)
    options = checker.validate(cls, LocatedData(data, {(): path}))
    if cls is LimitOptions:
        check_pool(checker, path, data)
    return options


def _check_sections(
    checker: OptionsChecker, sections: Mapping[str, Mapping[str, Any]], resolved: Mapping[str, Resolved]
) -> None:
    """Report what is wrong although each value is valid by itself: names, contradictions, and what is missing."""
    models, chains, interpolated = sections["models"], sections["chains"], checker.interpolated
    for model in resolved.values():
        check_limit(checker, model.view, sections["limits"])
        check_model(checker, model)
    check_names(checker, {section: sections[section] for section in _NAMED_SECTIONS})
    check_chains(checker, chains, models)
    check_failures(checker, {name: chain for name, chain in chains.items() if isinstance(chain, dict)})
    check_budgets(checker, sections, resolved)
    check_served(checker, interpolated.data.get("serve"), {*models, *chains})
    if "shared" in interpolated.data and importlib.util.find_spec("redis") is None:
        message = "`shared` needs the client of Redis and Valkey, which is not installed"
        checker.problem(("shared",), message, install_command("redis"), key=True)
    for path, missing in interpolated.unset.items():
        if path[0] not in {"models", "defaults"}:  # only a model can be skipped
            message = f"{checker.subject(path)} cannot be filled in: {missing[0].instruction}"
            checker.problem(path, message, "or give a default: ${VAR:-default}")


def _make_loaded(checker: OptionsChecker, config: HubConfig, resolved: Mapping[str, Resolved]) -> Loaded:
    places = {name: (section, name) for section in ("models", "chains") for name in getattr(config, section)}
    renewable: set[str] = set()
    for path in checker.interpolated.renewable:
        if path[0] == "models":
            renewable.add(str(path[1]))
        elif path[0] == "defaults":
            renewable.update(resolved)
    return Loaded(
        file=checker.document.sources[0].file,
        config=config,
        models={name: model.entry for name, model in resolved.items()},
        chains=config.chains,
        limits=config.limits,
        lines={name: checker.document.find_line(path) for name, path in places.items()},
        renewable=frozenset(renewable),
        _document=checker.document,
        _settings=dict(_trace_settings(checker, config, resolved)),
    )


def _trace_settings(
    checker: OptionsChecker, config: HubConfig, resolved: Mapping[str, Resolved]
) -> Iterator[tuple[tuple[str, str], Callable[[], tuple[Origin, ...]]]]:
    """Yield the key of every entry, as in `Loaded.list_settings`, and a function that traces its values."""
    for name, model in resolved.items():
        yield ("model", name), partial(trace_origins, checker, model.view, model.config)
    data = checker.interpolated.data
    for section in HubConfig.model_fields:
        if section in {"version", "models", "defaults"} or section not in data:
            continue
        options = getattr(config, section)
        paths = [(section, name) for name in data[section]] if section in _NAMED_SECTIONS else [(section,)]
        for path in paths:
            view = LocatedData(get_value(data, path), {(): path})
            key = (section.removesuffix("s"), str(path[-1])) if len(path) > 1 else ("setting", section)
            yield key, partial(trace_origins, checker, view, options[path[-1]] if len(path) > 1 else options)
