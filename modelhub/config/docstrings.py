"""What the fields of options mean: the text below each, read from the source when somebody asks.

pydantic can read it when a class is made, but then every import parses the source of every class of options.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise

__all__ = ["field_texts"]


@cache
def field_texts(cls: type) -> Mapping[str, str]:
    """The text below each field of *cls* and of its bases, by the field's name; the class's own goes first."""
    return {name: text for base in reversed(cls.__mro__) for name, text in _own_texts(base)}


def _own_texts(cls: type) -> Iterator[tuple[str, str]]:
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError):
        return  # it was not written but made, or its source is not there
    for field, text in pairwise(definition.body if isinstance(definition, ast.ClassDef) else ()):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, inspect.cleandoc(words)
