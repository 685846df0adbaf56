"""Take keys, passwords and prompts out of texts that are shown: error messages, records of attempts, logs.

A server may echo what it was sent cut off, re-spaced, in another case, or escaped for JSON, URLs or HTML. Text is
therefore compared in a *normalized* form: escapes are undone, case is folded, and only letters and digits remain.
The work is linear in the length of the text and of the conversation.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote_to_bytes

from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import ProviderItemBlock, TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock

__all__ = ["PreparedSecrets", "is_clean", "redact", "shorten", "texts_of_request"]

HIDDEN_KEY = "***"
CONTENT_MASK = "<content>"

_MAX_TEXT = 4096
"""How much of a text is looked at; more than is ever shown of one."""
_MAX_CONTENT = 32_768
"""How much of either end of a content is looked for: what a server echoes is the beginning or the end."""
_MAX_CONTENTS = 262_144
"""How much of a conversation is looked for."""
_MIN_BARE_SECRET = 8
"""Shorter secrets are only hidden where they stand as words of their own: `k` is a letter of many words."""
_MIN_SECRET_RUN = 8
_MIN_SECRET_END = 4
_MIN_CONTENT_RUN = 20
_MIN_CONTENT_END = 11
_MIN_WHOLE_CONTENT = 6
_GRAM = 8
_WIDE_GRAM = 3
_WIDE_WEIGHT = 3
"""What a character of a script without spaces counts: it says as much as a few letters do."""
_MAX_COMPARISONS = 50_000
_LONG_CONVERSATION = 4096
"""From this many characters of a conversation on, an index is made of the text to look for them in it."""

_Range = tuple[int, int]

_ESCAPE = re.compile(
    r"(?P<percent>(?:%(?:25)*[0-9A-Fa-f]{2})+)"
    r"|\\+u(?P<unicode>[0-9A-Fa-f]{4})"
    r"|\\+[nrtbf]"
    r"|(?P<entity>&(?:amp;)*(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});)"
)
_ESCAPE_OR_CHARACTER = re.compile(f"{_ESCAPE.pattern}|.", re.DOTALL)
_ASCII_SIGNS = bytes(code for code in range(128) if not chr(code).isalnum())
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_WIDE = re.compile("[\u1100-\u11ff\u2e80-\uffdc\U00020000-\U0003ffff]")
_TOKEN = re.compile(r"[\w+/=-]{4,}")
_ORDINARY_WORD = re.compile(r"[A-Za-z]?[a-z]*")


class PreparedSecrets:
    """Secrets and what they are looked for by, for whoever redacts many texts. Its representation shows none of them.

    *secrets* are in `texts` as they came.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self.texts = tuple(secrets)
        longest_first = sorted({secret for secret in self.texts if secret}, key=len, reverse=True)
        normalized = (_normalize(secret) for secret in longest_first)
        self.spellings = [_compile_spelling(spelling) for secret in longest_first for spelling in _spellings(secret)]
        """What is looked for as it is: text, or a pattern where it must stand alone."""
        self.runs = [_SecretRuns(secret) for secret in normalized if len(secret) >= _MIN_SECRET_RUN]
        """What is looked for of every secret that is so long that a part of it counts."""


class _SecretRuns:
    """What is looked for to find parts of a normalized *secret*."""

    __slots__ = ("grams", "probes", "secret")

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.grams = frozenset(secret[at : at + _GRAM] for at in range(len(secret) - _GRAM + 1))
        """The parts that are as short as may be."""
        step = _GRAM - _MIN_SECRET_END + 1
        starts = (*range(0, len(secret) - _MIN_SECRET_END, step), len(secret) - _MIN_SECRET_END)
        self.probes = {secret[at : at + _MIN_SECRET_END] for at in starts}
        """So few pieces that every one of `grams`, the beginning and the end hold one of them."""


def redact(text: str, secrets: Iterable[str] | PreparedSecrets, contents: Iterable[str] = (), limit: int = 300) -> str:
    """Return *text* on one line, at most *limit* long, without *secrets* or parts of the conversation's *contents*.

    A secret becomes `***` and a stretch of the conversation `<content>`.
    """
    prepared = secrets if isinstance(secrets, PreparedSecrets) else PreparedSecrets(secrets)
    text = _mask_secrets(text[:_MAX_TEXT], prepared)
    return shorten(_mask_contents(text, contents), limit)


def shorten(text: str, limit: int = 300) -> str:
    """Return *text* on one line, at most *limit* long."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def is_clean(text: str, secrets: PreparedSecrets, contents: Iterable[str]) -> bool:
    """Whether *text* holds none of *secrets* and no part of *contents*; false for a text too long to be looked at."""
    return len(text) <= _MAX_TEXT and _mask_contents(_mask_secrets(text, secrets), contents) == text


# -- secrets -----------------------------------------------------------------------------------------------------------


def _mask_secrets(text: str, secrets: PreparedSecrets) -> str:
    for spelling in secrets.spellings:
        text = text.replace(spelling, HIDDEN_KEY) if isinstance(spelling, str) else spelling.sub(HIDDEN_KEY, text)
    for runs in secrets.runs:
        text = _mask_secret_runs(text, runs)
    return text


def _compile_spelling(spelling: str) -> str | re.Pattern[str]:
    if len(spelling) >= _MIN_BARE_SECRET:
        return spelling
    escaped = re.escape(spelling)
    return re.compile(rf"{escaped}(?<![A-Za-z0-9]{escaped})(?![A-Za-z0-9])")  # its first letters are quickly found


def _spellings(secret: str) -> list[str]:
    """Return *secret* as it may be written, the longest spelling first."""
    data = secret.encode("utf-8", "surrogatepass")
    spellings = {
        secret,
        quote(data, safe=""),
        quote_plus(data),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
    }
    if len(secret) >= _MIN_SECRET_END:
        spellings |= {base64.b64encode(data).decode().rstrip("="), base64.urlsafe_b64encode(data).decode().rstrip("=")}
        spellings |= {data.hex(), data.hex().upper()}
    return sorted(spellings, key=len, reverse=True)


def _mask_secret_runs(text: str, runs: _SecretRuns) -> str:
    """Mask the parts of a secret that stand in *text*."""
    normalized = _normalize(text)
    # Where letters are escaped, a word may look like the end of a secret that is not in the normalized text.
    if not any(probe in normalized for probe in runs.probes) and not _may_have_escapes(text):
        return text
    starts = [at for at in range(len(normalized) - _GRAM + 1) if normalized[at : at + _GRAM] in runs.grams]
    ranges = _places(text, [(at, at + _GRAM) for at in starts])
    for token in _TOKEN.finditer(text):
        part = "" if _ORDINARY_WORD.fullmatch(token[0]) else _normalize(token[0])
        is_start = len(part) >= _MIN_SECRET_END and runs.secret.startswith(part)
        if is_start or (len(part) > _MIN_SECRET_END and runs.secret.endswith(part)):
            ranges.append(token.span())
    return _mask(text, ranges, HIDDEN_KEY)


# -- the conversation --------------------------------------------------------------------------------------------------


def _mask_contents(text: str, contents: Iterable[str]) -> str:
    """Mask what *text* shares with *contents*: a longer run of letters, or a shorter one at either end of a text."""
    normalized = _normalize(text)
    if len(normalized) < _MIN_WHOLE_CONTENT:
        return text
    overlap = Overlap(normalized)
    remaining = _MAX_CONTENTS
    for content in contents:
        ends = [content] if len(content) <= 2 * _MAX_CONTENT else [content[:_MAX_CONTENT], content[-_MAX_CONTENT:]]
        for part in ends:
            overlap.add(part)
            remaining -= len(part)
        if remaining <= 0:
            break
    return _mask(text, _places(text, overlap.ranges), CONTENT_MASK)


class Overlap:
    """The stretches of one normalized *text* that stand in other texts; `ranges` has them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.ranges: list[_Range] = []
        self._compared_length = 0
        self._indexes: dict[int, dict[str, list[int]]] = {}
        self._comparisons = 0

    def add(self, content: str) -> None:
        """Look for *content*."""
        normalized = _normalize(content)
        if self._add_short(content, normalized):
            return
        is_wide = not normalized.isascii() and _WIDE.search(normalized) is not None
        gram = _WIDE_GRAM if is_wide else _GRAM
        if len(normalized) < gram:
            return
        # A run long enough to be hidden holds at least one of these samples, whole.
        shortest = _MIN_CONTENT_RUN // _WIDE_WEIGHT if is_wide else _MIN_CONTENT_RUN
        stride = shortest - gram + 1
        last = len(normalized) - gram
        self._compared_length += len(normalized)
        # An index pays for a long conversation; else it is made for the few texts that share something with one.
        searched = self.text if self._compared_length < _LONG_CONVERSATION else self._index(gram)
        for at in (last, *range(0, last, stride)):
            if (sample := normalized[at : at + gram]) in searched:
                self._compare(normalized, at, gram, self._index(gram)[sample])

    def _add_short(self, content: str, normalized: str) -> bool:
        """Look for a *content* of a few words as a whole; false if it is a longer one."""
        size = _weigh(normalized)
        if size >= _MIN_CONTENT_RUN:
            return False
        if size < _MIN_WHOLE_CONTENT or (size < _MIN_CONTENT_END and not any(map(str.isdigit, normalized))):
            return True
        if len(content.split()) > 1 or size > len(normalized):
            start = self.text.find(normalized)
            while start >= 0:
                self.ranges.append((start, start + len(normalized)))
                start = self.text.find(normalized, start + len(normalized))
        return True

    def _index(self, gram: int) -> dict[str, list[int]]:
        """Return every part of *gram* characters with the places where it stands and was not compared yet."""
        if gram not in self._indexes:
            index = self._indexes[gram] = {}
            for at in range(len(self.text) - gram + 1):
                index.setdefault(self.text[at : at + gram], []).append(at)
        return self._indexes[gram]

    def _compare(self, content: str, at: int, gram: int, positions: list[int]) -> None:
        """Note the run around each of *positions* that *content* has around *at*, if it is long enough."""
        covered_until = -1
        for position in list(positions):
            if position < covered_until:
                positions.remove(position)
                continue
            self._comparisons += 1
            if self._comparisons > _MAX_COMPARISONS:  # no text that anybody means: hide what may be hidden
                self.ranges.append((position, position + gram))
                continue
            start, end, content_start, content_end = self.extend(content, at, position, gram)
            is_end = content_start == 0 or content_end == len(content)
            if _weigh(self.text[start:end]) >= (_MIN_CONTENT_END if is_end else _MIN_CONTENT_RUN):
                self.ranges.append((start, end))
                positions.remove(position)
                covered_until = end - gram + 1

    def extend(self, content: str, at: int, position: int, gram: int) -> tuple[int, int, int, int]:
        """Return where the run around *position* begins and ends, here and in *content*."""
        text = self.text
        start, content_start = position, at
        while start and content_start and text[start - 1] == content[content_start - 1]:
            start, content_start = start - 1, content_start - 1
        end, content_end = position + gram, at + gram
        while end < len(text) and content_end < len(content) and text[end] == content[content_end]:
            end, content_end = end + 1, content_end + 1
        return start, end, content_start, content_end


def _weigh(normalized: str) -> int:
    if normalized.isascii():
        return len(normalized)
    return len(normalized) + (_WIDE_WEIGHT - 1) * len(_WIDE.findall(normalized))


# -- the normalized form -----------------------------------------------------------------------------------------------


def _may_have_escapes(text: str) -> bool:
    return "\\" in text or "%" in text or "&" in text


def _normalize(text: str) -> str:
    """Return the letters and digits of *text*, in lower case, with escapes undone."""
    if _may_have_escapes(text):
        text = _ESCAPE.sub(_unescape, text)
    # As bytes, because that is ten times as fast as by a regular expression.
    data = text.casefold().encode("utf-8", "surrogatepass").translate(None, _ASCII_SIGNS)
    plain = data.decode("utf-8", "surrogatepass")
    return plain if plain.isascii() else _NOT_ALPHANUMERIC.sub("", plain)


def _places(text: str, ranges: list[_Range]) -> list[_Range]:
    """Return the ranges of *text* that *ranges* of its normalized form stand for."""
    if not ranges:  # as in most texts
        return []
    places: list[_Range] = []
    if text.isascii() and not _may_have_escapes(text):  # each character stands for itself
        places = [(at, at + 1) for at, character in enumerate(text) if character.isalnum()]
    else:
        for match in _ESCAPE_OR_CHARACTER.finditer(text):
            piece = match[0] if len(match[0]) == 1 else _unescape(match)
            places += [match.span()] * len(_NOT_ALPHANUMERIC.sub("", piece.casefold()))
    return [(places[start][0], places[end - 1][1]) for start, end in ranges]


def _unescape(match: re.Match[str]) -> str:
    """Return what an escape stands for, " " for white space."""
    if match["percent"]:
        return unquote_to_bytes(match["percent"].replace("%25", "%") or "%").decode("utf-8", "replace")
    if match["unicode"]:
        return chr(int(match["unicode"], 16))
    return html.unescape(match["entity"].replace("amp;", "")) if match["entity"] else " "


def _mask(text: str, ranges: list[_Range], mask: str) -> str:
    """Return *text* with *mask* in the place of each of *ranges*; those that touch or overlap become one."""
    joined: list[_Range] = []
    for start, end in sorted(ranges):
        # Words of an echo with nothing but blanks or signs between them are one echo.
        if joined and not any(char.isalnum() for char in text[joined[-1][1] : start]):
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    pieces: list[str] = []
    done = 0
    for start, end in joined:
        pieces += (text[done:start], mask)
        done = end
    return "".join((*pieces, text[done:]))


# -- what a conversation holds -----------------------------------------------------------------------------------------


def texts_of_request(request: ChatRequest) -> Iterator[str]:
    """Yield every text of the conversation, the latest first."""
    for message in reversed(request.messages):
        for block in message.blocks:
            match block:
                case TextBlock():
                    yield block.text
                case ThinkingBlock():
                    yield block.thinking
                case ProviderItemBlock():
                    # Shorter ones are names of the API, which an error may tell: types, states, ids.
                    yield from (text for text in _texts_in(block.item) if " " in text)
                case ToolUseBlock():
                    yield from _texts_in(block.input)
                case ToolResultBlock():
                    yield from (part.text for part in block.output if isinstance(part, TextBlock))


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(item)
