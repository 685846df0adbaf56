"""What a row of a job asks: its messages, its prompt, or a template that is filled from its columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any

from modelhub.core.errors import InvalidRequest
from modelhub.core.request import Messages

__all__ = ["PromptTemplate", "RowPrompts"]

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_COLUMN = re.compile(r"[^{}\"'`:\n]*[^{}\"'`:\s][^{}\"'`:\n]*")
_MAX_LISTED = 8  # columns that a message lists


class PromptTemplate:
    """A text with the names of columns in braces, such as "Summarise: {text}"; `{{` and `}}` stand for braces.

    A name with dots, such as `{user.name}`, also leads into nested mappings. Raises InvalidRequest for a text that
    names no column, or has a brace that belongs to none.
    """

    def __init__(self, text: str) -> None:
        self.columns: tuple[str, ...] = ()
        """The columns that are named, in order, each once."""
        self._pieces: list[tuple[str, str | None]] = []  # text, and the column that follows it
        literal, end = "", 0
        for match in _PLACEHOLDER.finditer(text):
            literal += text[end : match.start()]
            end = match.end()
            if match[0] in ("{{", "}}"):
                literal += match[0][0]
                continue
            name = match[1]
            if name is None or not _COLUMN.fullmatch(name):
                raise InvalidRequest(
                    f"prompt: `{match[0]}` names no column; write {{{{ and }}}} for braces that are part of the text"
                )
            self._pieces.append((literal, name.strip()))
            literal = ""
        self._pieces.append((literal + text[end:], None))
        self.columns = tuple(dict.fromkeys(column for _, column in self._pieces if column is not None))
        if not self.columns:
            raise InvalidRequest("prompt: the template names no column, such as {text}, so all rows would ask the same")

    def fill(self, row: Any) -> str:
        """Return the prompt of *row*: a mapping, or the text of the only column. Raises InvalidRequest."""
        if isinstance(row, str) and len(self.columns) == 1:
            row = {self.columns[0]: row}
        if not isinstance(row, Mapping):
            raise InvalidRequest(f"the template needs a row with columns, not {type(row).__name__}")
        return "".join(
            text if column is None else text + _as_text(find_value(row, column), column)
            for text, column in self._pieces
        )


def find_value(row: Mapping[str, Any], column: str) -> Any:
    """Return the value of *column* in *row*; dots lead into nested mappings. Raises InvalidRequest if there is none."""
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise InvalidRequest(f"the row has no column `{column}` ({_list_columns(row)})")
        value = value[name]
    return value


def _as_text(value: Any, column: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        raise InvalidRequest(f"column `{column}` of the row is empty (null)")
    if isinstance(value, Mapping | list | tuple | bool):
        return json.dumps(value, ensure_ascii=False, default=lambda inner: _as_text(inner, column))
    if isinstance(value, bytes):
        raise InvalidRequest(f"column `{column}` of the row holds bytes, which are no text")
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _list_columns(row: Mapping[str, Any]) -> str:
    names = [str(name) for name in row]
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"it has: {', '.join(names[:_MAX_LISTED])}{more}" if names else "it has none"


class RowPrompts:
    """Turns rows into messages.

    A row is a prompt (text), a list of messages, one message, or a mapping with `messages` or `prompt`; with the
    template *prompt*, it is any mapping, or text for a template with one column. *system* is put before the messages
    as the system message.
    """

    def __init__(self, prompt: str | None = None, system: str | None = None) -> None:
        self.template = None if prompt is None else PromptTemplate(prompt)
        self._system = None if system is None else {"role": "system", "content": system}

    def make_messages(self, row: Any) -> Messages:
        """Return the messages of *row*. Raises InvalidRequest, which says what is missing."""
        messages: Messages
        if self.template is not None:
            messages = self.template.fill(row)
        elif isinstance(row, str):
            messages = row
        elif type(row) is dict or isinstance(row, Mapping):  # a dict is told at once, an abstract class is asked
            messages = _read_mapping(row)
        elif isinstance(row, Sequence) and not isinstance(row, bytes):
            messages = row
        else:
            raise InvalidRequest(f"a row is text, a list of messages or a mapping, not {type(row).__name__}")
        if self._system is None:
            return messages
        if isinstance(messages, str):
            return [self._system, {"role": "user", "content": messages}]
        return [self._system, *messages]


def _read_mapping(row: Mapping[str, Any]) -> Messages:
    """Return what a row with columns asks when there is no template."""
    messages = row.get("messages")
    if messages is not None:
        if not isinstance(messages, Sequence) or isinstance(messages, bytes):
            raise InvalidRequest("`messages` of the row must be a list of messages")
        return messages
    prompt = row.get("prompt")
    if prompt is not None:
        if not isinstance(prompt, str):
            raise InvalidRequest("`prompt` of the row must be text")
        return prompt
    if "role" in row:
        return [row]
    raise InvalidRequest(
        f"the row has neither `messages` nor `prompt` ({_list_columns(row)}); name its columns in a template, "
        "such as prompt='Summarise: {text}'"
    )
