"""Which of our parameters a vendor's refusal names, by the field that says so or by the words of the message.

Only refusals of a parameter as such count: one of a value (a temperature of 5) must not take the parameter away from
every later call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from modelhub.options import EFFORTS, Effort
from modelhub.providers.parameters import camel_case, snake_case

__all__ = ["find_levels", "find_refused"]

_UNSUPPORTED: Final = re.compile(
    r"unsupported (parameter|value|param|field|argument)"
    r"|\b(is|are|was|were) ?(not|n[o']t) (currently |yet )?(supported|allowed|permitted|enabled|available|accepted)"
    r"|\bnot supported\b|\bunsupported\b"
    r"|\b(does|do|did) ?(not|n['\u2019]t) (support|accept|allow|take)"
    r"|(extra|additional) (inputs|fields|properties|parameters) (is|are) not (permitted|allowed|supported)"
    r"|unrecognized|unknown (parameter|field|name|argument|key)|unexpected (parameter|field|keyword|argument|propert)"
    r"|no such (parameter|field)|is no parameter|\bdeprecated\b|cannot (both )?be (specified|used|set|combined)"
    r"|only the default|only \S{1,20} is (allowed|supported|accepted)|only (supports?|available|allowed|works)\b"
    r"|invalid think value|may only be set|must be (unset|omitted|removed)|incompatible|\bonly one\b"
    r"|must be 1(?![\w.])(?! (or|to|and)\b)|(restricted|must be set) to (true|false)"
)
"""How servers say that a parameter is not taken, in lower case."""
_PLAIN_WORDS: Final = frozenset({"n", "stop", "user", "seed", "format", "options", "think", "store", "effort"})
"""Names that are words of any sentence, so that they count only where they are marked as names."""
_LIST: Final = re.compile(
    r"(?:(?:supported|allowed|valid|accepted|possible) (?:values|levels|options)[^:.]{0,60}:?"
    r"|(?:must be one of|should be|expected one of):?) (.{1,200})"
)
_ABOUT_SCHEMA: Final = re.compile(r"\bschema\b|in context=\(|\btools?(\[\d|\.\d)")
"""Refusals of a schema or a tool, which may have properties of any name."""
_BEFORE_NAME: Final = (
    r"(?:parameters?|arguments?|arguments? supplied|fields?|names?|keys?|inputs?|unrecognized|unsupported)"
)


def find_refused(message: str, field: str | None, candidates: Mapping[str, Sequence[str]]) -> str | None:
    """Return the one of *candidates* that a refusal with *message* names as not taken, or None.

    *candidates* are the parameters that were sent, each with the names it has on the wire; *field* is what the
    refusal gives as the parameter at fault.
    """
    text = message.lower()
    if _UNSUPPORTED.search(text) is None and not find_levels(message):
        return None
    path = snake_case(field or "")
    for suffix in (path, path.rpartition(".")[2]) if path else ():
        for name, wire_names in candidates.items():
            if any(suffix == wire or suffix.startswith(f"{wire}.") for wire in wire_names):
                return name
    if _ABOUT_SCHEMA.search(text) is not None:
        return None
    places = ((place, name) for name, wire in candidates.items() for place in _places(text, wire))
    return min(places, default=(0, None))[1]


def _places(text: str, wire_names: Sequence[str]) -> Iterator[int]:
    for wire in wire_names:
        for spelled in {wire.lower(), camel_case(wire).lower(), wire.rpartition(".")[2].lower()}:
            name = re.escape(spelled)
            if spelled in _PLAIN_WORDS:
                pattern = (
                    rf"[`'\"]{name}[`'\"]|(?:^|: ){name}: |\b{_BEFORE_NAME}:? {name}\b|: {name}\.?$"
                    rf"|\b{name} (?:parameter|argument|field|option|value)\b|\bgeneration_?config\.{name}\b"
                )
            else:
                pattern = rf"(?:(?<![\w.])|\bgeneration_?config\.){name}(?!\w)"
            if (match := re.search(pattern, text)) is not None:
                yield match.start()


def find_levels(message: str) -> tuple[Effort, ...]:
    """Return the levels of effort that a refusal lists as those it knows, in their order."""
    match = _LIST.search(message.lower())
    words = set(re.findall(r"[a-z]+", match[1])) if match is not None else set[str]()
    return tuple(level for level in EFFORTS if level in words)
