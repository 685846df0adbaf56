"""What the fields of options mean: the text below each, read from the source when somebody asks.

pydantic can read it when a class is made, but then every import parses the source of every class of options. And
`inspect.getsource` parses a module again for each of its classes; here it is parsed once for all of them.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import pairwise

__all__ = ["field_texts"]

_CACHED_MODULES = 8  # the classes of one module come one after the other


@cache
def field_texts(cls: type) -> Mapping[str, str]:
    """The text below each field of *cls* and of its bases, by the field's name; the class's own goes first."""
    return {name: text for base in reversed(cls.__mro__) for name, text in _own_texts(base).items()}


def _own_texts(cls: type) -> Mapping[str, str]:
    """Return the texts below the fields in the body of *cls*; none if its source cannot be had."""
    if not inspect.get_annotations(cls):
        return {}  # it has no field of its own
    try:
        source = inspect.getsource(sys.modules[cls.__module__])
    except (KeyError, OSError, TypeError):
        return {}  # it was not written but made, or its source is not there
    return _texts_by_class(source).get(cls.__qualname__, {})


@lru_cache(_CACHED_MODULES)
def _texts_by_class(source: str) -> Mapping[str, Mapping[str, str]]:
    """Return the texts below the fields of every class in *source*, by the class's qualified name."""
    return {name: dict(_texts_in(body)) for name, body in _classes_in(ast.parse(source).body, "")}


def _classes_in(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Yield the qualified name and the body of every class in *body*, at any depth."""
    for node in body:
        match node:
            case ast.ClassDef(name=name, body=inner):
                yield prefix + name, inner
                yield from _classes_in(inner, f"{prefix}{name}.")
            case ast.FunctionDef(name=name, body=inner) | ast.AsyncFunctionDef(name=name, body=inner):
                yield from _classes_in(inner, f"{prefix}{name}.<locals>.")
            case _:
                nested = (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
                yield from _classes_in(nested, prefix)


def _texts_in(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, inspect.cleandoc(words)
