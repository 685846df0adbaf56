"""Trace where every value of a model or chain comes from: its entry, the file's defaults, or a built-in default."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modelhub.config.check import OptionsChecker
from modelhub.config.schema import load_layer_options
from modelhub.config.secrets import MASK, is_reference, looks_like_key
from modelhub.config.source import Path
from modelhub.config.view import LocatedData, get_value, is_secret_path, walk_leaves
from modelhub.options import Duration, LayerOptions

__all__ = ["Origin", "trace_origins"]

Where = Literal["entry", "defaults", "built-in default"]


@dataclass(frozen=True, slots=True)
class Origin:
    """One value: its `path` in the entry ("retry.max_attempts"), its text as `shown` (as it is written; secrets are
    `***`), and the `source` it comes from, with the `line` of the file (0 for what is built in, or without a file).
    `fingerprint` differs, within one process, for values that differ; 0 for what is built in. `file` has the line.
    `is_from_profile` tells that the profile set it. `number` is the number that it stands for (of a duration, the
    seconds), None for what is none, and for references. `is_literal_key` tells that a key is written in the file.
    """

    path: str
    shown: str
    source: Where
    line: int = 0
    fingerprint: int = field(default=0, repr=False, compare=False)
    file: str = ""
    is_from_profile: bool = False
    number: int | float | Decimal | None = field(default=None, repr=False, compare=False)
    is_literal_key: bool = False


def trace_origins(checker: OptionsChecker, view: LocatedData, config: BaseModel | None) -> tuple[Origin, ...]:
    """Return the origin of every value of *view*, then of the built-in defaults of *config*, its validated form."""
    written = [_trace_written(checker, view, path, value, config) for path, value in walk_leaves(view.data) if path]
    return (*written, *(_trace_defaults(config, ()) if config is not None else ()))


def _trace_written(
    checker: OptionsChecker, view: LocatedData, path: Path, value: Any, config: BaseModel | None
) -> Origin:
    place, document = view.source_path(path), checker.document
    return Origin(
        ".".join(map(str, path)),
        _format_shown(checker, place, value),
        "defaults" if place[0] == "defaults" else "entry",
        document.find_line(place),
        hash(str(value)),
        document.find_source(place).file,
        place in document.profile_paths,
        None if place in checker.interpolated.from_environment else _find_number(config, path),
        is_secret_path(place) and looks_like_key(str(get_value(document.data, place))),
    )


def _find_number(config: Any, path: Path) -> int | float | Decimal | None:
    """Return the number at *path* of the validated *config*, None if there is something else."""
    for part in path:
        if isinstance(config, BaseModel):
            config = getattr(config, str(part), None)
        elif isinstance(config, Mapping):
            config = config.get(part)
        else:
            config = config[part] if isinstance(config, Sequence) and isinstance(part, int) else None
    return _as_number(config)


def _as_number(value: Any) -> int | float | Decimal | None:
    return value if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else None


def _format_shown(checker: OptionsChecker, place: Path, value: Any) -> str:
    written = checker.document.places[place].written if place in checker.document.places else None
    if is_secret_path(place):
        return written if written is not None and is_reference(written) else MASK
    text = checker.written(place)
    if text is None:
        return "{}" if isinstance(value, Mapping) else "[]"
    if place in checker.interpolated.from_environment and re.fullmatch(
        r"-?[\d.]+ *[a-z]{0,2}|true|false", f"{value}".lower()
    ):
        return f"{value} ({text})"
    return text


def _trace_defaults(config: BaseModel, here: tuple[str, ...]) -> Iterator[Origin]:
    """Yield the values that are not written in the file, those of layers without a key included."""
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        path = (*here, name)
        if value is None and not here:
            layer = load_layer_options().get(name)
            yield from _trace_layer_defaults(layer, name) if layer is not None and name != "limit" else ()
        elif isinstance(value, BaseModel):
            yield from _trace_defaults(value, path)
        elif name not in config.model_fields_set and value is not None and value not in ({}, [], ()):
            shown = _format_value(value, info)
            yield Origin(".".join(path), shown, "built-in default", number=_as_number(value))


@cache
def _trace_layer_defaults(cls: type[LayerOptions], key: str) -> tuple[Origin, ...]:
    """Return the defaults of a layer whose *key* is not in the file."""
    if any(info.is_required() for info in cls.model_fields.values()):
        return ()
    return tuple(_trace_defaults(cls(), (key,)))


def _format_value(value: Any, info: FieldInfo) -> str:
    """Return *value* as it would be written in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and any(isinstance(part, Duration) for part in info.metadata):
        return f"{value * 1000:g}ms" if 0 < value < 1 else f"{value:g}s"
    return f"{value:g}" if isinstance(value, float) else str(value)
