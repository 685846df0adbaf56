"""Read the docstrings below the fields of options classes from their source, when a schema is written.

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

__all__ = ["read_field_docs"]

_CACHED_MODULES = 8  # the classes of one module come one after the other


@cache
def read_field_docs(cls: type) -> Mapping[str, str]:
    """Return the docstring below each field of *cls* and its bases, by field name; *cls* itself takes precedence."""
    return {name: text for base in reversed(cls.__mro__) for name, text in _read_class_docs(base).items()}


def _read_class_docs(cls: type) -> Mapping[str, str]:
    """Return the docstrings of the fields in the body of *cls*, or an empty dict if its source is not available."""
    if not inspect.get_annotations(cls):
        return {}  # it has no field of its own
    try:
        source = inspect.getsource(sys.modules[cls.__module__])
    except (KeyError, OSError, TypeError):
        return {}  # the class was created at run time, or its source is not installed
    return _parse_module_docs(source).get(cls.__qualname__, {})


@lru_cache(_CACHED_MODULES)
def _parse_module_docs(source: str) -> Mapping[str, Mapping[str, str]]:
    """Return the field docstrings of every class in *source*, by the class's qualified name."""
    return {name: dict(_walk_field_docs(body)) for name, body in _walk_classes(ast.parse(source).body, "")}


def _walk_classes(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Yield the qualified name and the body of every class in *body*, at any depth."""
    for node in body:
        match node:
            case ast.ClassDef(name=name, body=inner):
                yield prefix + name, inner
                yield from _walk_classes(inner, f"{prefix}{name}.")
            case ast.FunctionDef(name=name, body=inner) | ast.AsyncFunctionDef(name=name, body=inner):
                yield from _walk_classes(inner, f"{prefix}{name}.<locals>.")
            case _:
                nested = (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
                yield from _walk_classes(nested, prefix)


def _walk_field_docs(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, inspect.cleandoc(words)
