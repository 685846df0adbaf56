"""Explain YAML syntax errors, with a hint at the remedy.

The parser's own messages are never repeated: they quote the text, which may be a secret.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from modelhub.config.problems import Span

if TYPE_CHECKING:
    from yaml.error import Mark

__all__ = ["LINE_BREAK", "explain_syntax_error"]

LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""Line breaks as YAML counts them, so that line numbers agree with the parser's."""

_COLON = re.compile(r":(\s|$)")
_REFERENCE = re.compile(r"\$\{[^{}]*\}?")
_QUOTE_HINT = "put it in quotes"

_PARSER_MESSAGES: tuple[tuple[str, str, str], ...] = (
    (r"character '\t'", "a tab; YAML indents with spaces", "replace it by spaces"),
    ("that cannot start any token", "text cannot begin with this character", _QUOTE_HINT),
    (
        "could not find expected ':'",
        "a line without `key: value`",
        "is a `:` missing, or quotes around the text above?",
    ),
    ("undefined alias", "an alias (`*name`) whose anchor (`&name`) does not exist", _QUOTE_HINT),
    ("duplicate anchor", "an anchor (`&name`) that was already given", "give it another name"),
    ("undefined tag handle", "a tag (`!name`) is not supported", _QUOTE_HINT),
    ("unknown escape character", "an unknown escape in double quotes", "use single quotes, or double the backslash"),
    ("but found another document", "a second document (`---`)", "a file has one document"),
    ("expected alphabetic or numeric", "an anchor (`&`) or alias (`*`) without a name", _QUOTE_HINT),
    ("found '<block mapping start>'", "this indentation fits no line above", "align it with its neighbours"),
    ("found '<block sequence start>'", "this indentation fits no line above", "align it with its neighbours"),
    ("found '<scalar>'", "unexpected text after the value", "put quotes around the whole value"),
    ("found '?'", "a key among list items", "begin it with `- `, or align it with another key"),
    ("found '-'", "a list item among keys", "put a key above it, such as `models:`"),
    ("found ']'", "a `]` that closes nothing", ""),
    ("found '}'", "a `}` that closes nothing", ""),
    ("found '<stream end>'", "the file ends here, but a list or mapping is still open", ""),
    ("found ','", "an unexpected `,`", ""),
)


def explain_syntax_error(error: Any, text: str) -> tuple[Span, str, str]:
    """Return the span of the parser's *error* in *text*, what is wrong there, and a hint at what to do."""
    position = getattr(error, "position", None)
    if position is not None:
        before = text[:position]
        line, column = before.count("\n") + 1, position - before.rfind("\n")
        span = Span(line, column, line, column + 1)
        return span, "a control character that YAML does not allow", "remove it"
    mark = error.problem_mark
    for explain in (_explain_bare_reference, _explain_open_quote, _explain_open_bracket, _explain_stray_colon):
        explanation = explain(error, text)
        if explanation is not None:
            return explanation
    for needle, message, hint in _PARSER_MESSAGES:
        if needle in f"{error.context} {error.problem}":
            return _make_span(mark), message, hint
    return _make_span(mark), "this is not valid YAML", ""


def _explain_bare_reference(error: Any, text: str) -> tuple[Span, str, str] | None:
    """Explain an unquoted `${VAR}` in a flow list or mapping, where braces are syntax."""
    at = error.problem_mark
    line = LINE_BREAK.split(text)[at.line]
    start = next((match for match in _REFERENCE.finditer(line) if match.start() < at.column <= match.end()), None)
    if start is None or "parsing a flow" not in f"{error.context}":
        return None
    span = Span(at.line + 1, start.start() + 1, at.line + 1, start.end() + 1)
    return span, "`${...}` needs quotes inside `{}` or `[]`", 'write "${...}"'


def _explain_open_quote(error: Any, _text: str) -> tuple[Span, str, str] | None:
    if "quoted scalar" not in f"{error.context}" or "unexpected end" not in f"{error.problem}":
        return None
    return _make_span(error.context_mark), "this quote is not closed", "close it where the text ends"


def _explain_open_bracket(error: Any, _text: str) -> tuple[Span, str, str] | None:
    """Explain an unclosed flow list or mapping, or, if the error is on its first line, a missing `,` or bracket."""
    for kind, bracket, closing in (("flow sequence", "[", "]"), ("flow mapping", "{", "}")):
        if f"parsing a {kind}" in f"{error.context}":
            if error.context_mark.line != error.problem_mark.line or "<stream end>" in f"{error.problem}":
                return _make_span(error.context_mark), f"this `{bracket}` is not closed", f"add `{closing}`"
            return _make_span(error.problem_mark), f"a `,` or `{closing}` is missing before this", ""
    return None


def _explain_stray_colon(error: Any, text: str) -> tuple[Span, str, str] | None:
    if "mapping values are not allowed" not in f"{error.problem}":
        return None
    lines = LINE_BREAK.split(text)
    number = error.problem_mark.line
    if _COLON.search(lines[number][: error.problem_mark.column]):
        return _make_span(error.problem_mark), "a second `:` in one line", "put quotes around the value"
    above = next((at for at in range(number - 1, -1, -1) if lines[at].split("#")[0].strip()), number)
    if _COLON.search(lines[above]) or above == number:
        return _make_line_span(lines, number), "this line is indented too far", "align it with its neighbours"
    return (
        _make_line_span(lines, above),
        "this line has no `:`",
        "write `key: value`, or `key:` above more indented lines",
    )


def _make_line_span(lines: list[str], number: int) -> Span:
    line = lines[number].rstrip()
    return Span(number + 1, len(line) - len(line.lstrip()) + 1, number + 1, len(line) + 1)


def _make_span(mark: Mark) -> Span:
    return Span(mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2)
