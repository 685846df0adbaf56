"""Find secrets: which keys hold them, and where secret text is in a line.

In a file that parses, the values of secret keys are known exactly. In a file that does not, and in comments, secrets
are guessed line by line, rather too many than too few.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

__all__ = [
    "MASK",
    "Range",
    "apply_masks",
    "find_literal_secrets",
    "guess_file_masks",
    "guess_line_masks",
    "is_plain_key_field",
    "is_reference",
    "is_secret",
    "join_ranges",
    "looks_like_key",
    "redact_text",
]

MASK = "***"

Range = tuple[int, int]
"""A range of columns in one line, counted from 0; the end is exclusive."""

_WORD_PATTERN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_SECRET_WORDS = re.compile(
    "api[_-]?key|auth|authorization|bearer|cookies?|credentials?|keys?|passphrase|passwd|password|pwd|secrets?|token"
)
_SECRET_STEMS = re.compile("key|auth|bearer|cookie|credential|pass|pwd|secret|token")
"""A fast test: a name without any of these has no secret word."""
_QUANTITY_WORDS = re.compile("first|input|last|max|min|output|total")
"""Words before `token` that make it a count or a duration: `first_token` is not a secret."""
_SECRET_SPELLINGS = ("apikey", "authorization", "password", "passphrase", "secret", "credentials")
_LETTERS = re.compile("[a-z]+")

_REFERENCE = re.compile(r"\$\{(?:(?:call:)?[A-Za-z_]\w*|(?:file|cmd):[^{}]*)\}")
_VALUE_IS_REFERENCE = re.compile(r"""(["']?)\$\{(?:(?:call:)?[A-Za-z_]\w*|(?:file|cmd):[^{}]*)\}\1\s*(?:[,}\]#]|$)""")
# It begins at a word and does not backtrack, so that the search is linear in the length of the line.
_PAIR = re.compile(r"""(?<![\w.-])(["']?)([\w.-]++)\1\s*+[:=]\s*+(?=\S)""")
_SECTION = re.compile(r"secrets:\s*\{")
"""The section that says how secrets are renewed, and has none."""
_SIGNATURE = re.compile(r"[?&](?:sig|signature|code|sas)=([^&\s\"'#]+)", re.IGNORECASE)
"""Keys in the query of a URL: Azure storage and functions, signed links."""
_WITHOUT_SPACE = re.compile(r"\S+")
_MAX_NAME_LENGTH = 60
_KEY_LINE = re.compile(r"""\s*(?:-\s+)?(["']?)[\w.$-]+\1\s*:(?:\s|$)""")
_BLOCK_HEADER = re.compile(r"[|>][+-]?\d?[+-]?\s*(?:#.*)?$")
_LOOKS_SECRET = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|ghs)[-_][\w-]{8,}"
    r"|\bAIza[\w-]{10,}"
    r"|\bBearer\s+[^\s\"',}]+"
    r"|\beyJ[\w.-]{10,}"
    r"|\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{32,}\b"
)


def looks_like_key(text: str) -> bool:
    """Return whether *text*, which has no reference, begins as keys and tokens do, or is as long and mixed as one."""
    return "${" not in text and _LOOKS_SECRET.match(text) is not None


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Return whether a key called *name* holds a secret; misspelt names of secret keys count as well."""
    if len(name) > _MAX_NAME_LENGTH:  # longer than any real key: its two ends are enough
        name = f"{name[:_MAX_NAME_LENGTH]} {name[-_MAX_NAME_LENGTH:]}"
    lower = name.lower()
    if _SECRET_STEMS.search(lower):
        words = [word.lower() for word in _WORD_PATTERN.findall(name)]
        for before, word in zip(["", *words], words, strict=False):
            if _SECRET_WORDS.fullmatch(word) and not (word == "token" and _QUANTITY_WORDS.fullmatch(before)):
                return True
    return lower.endswith(("headers", "query")) or _is_misspelt("".join(_LETTERS.findall(lower)))


@lru_cache(maxsize=1024)
def _is_misspelt(letters: str) -> bool:
    """Return whether *letters* are close to the name of a secret key."""
    pairs = {letters[at : at + 2] for at in range(len(letters) - 1)}
    # Comparing is slow; words without a common pair of letters cannot be close.
    candidates = [
        spelling for spelling, spelling_pairs in _SPELLING_PAIRS.items() if not spelling_pairs.isdisjoint(pairs)
    ]
    return bool(difflib.get_close_matches(letters, candidates, 1, 0.75))


_SPELLING_PAIRS = {word: {word[at : at + 2] for at in range(len(word) - 1)} for word in _SECRET_SPELLINGS}


_PLAIN_KEY_FIELDS = frozenset({"weight", "limit", "name"})


def is_plain_key_field(path: Sequence[str | int]) -> bool:
    """Return whether *path* leads to what an item of a model's `keys` says beside the key, which is no secret."""
    return len(path) > 4 and (path[0], path[2]) == ("models", "keys") and path[4] in _PLAIN_KEY_FIELDS


def is_reference(text: str) -> bool:
    """Return whether *text* is only a reference to a secret, and may be shown: `${VAR}`, `${file:...}`, `${cmd:...}`.

    A command that has a secret among its arguments may not.
    """
    if _REFERENCE.fullmatch(text) is None:
        return False
    return not text.startswith("${cmd:") or not guess_line_masks(text.removeprefix("${cmd:"))


def guess_line_masks(line: str) -> list[Range]:
    """Return the ranges of *line* that look secret: the text after a secret key, and text that looks like a key."""
    ranges = [match.span() for match in _LOOKS_SECRET.finditer(line)]
    for word in _WITHOUT_SPACE.finditer(line) if "@" in line else ():  # user names and passwords in URLs
        start, end = word[0].find("://"), word[0].rfind("@")
        if 0 <= start < end:
            ranges.append((word.start() + start + 3, word.start() + end))
    if "=" in line:
        ranges += [match.span(1) for match in _SIGNATURE.finditer(line)]
    pairs = [pair for pair in _PAIR.finditer(line) if is_secret(pair[2]) and not _SECTION.match(line, pair.start())]
    literal = [pair.end() for pair in pairs if not _VALUE_IS_REFERENCE.match(line, pair.end())]
    return ranges + [(start, len(line.rstrip())) for start in literal]


def find_literal_secrets(config: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the dotted path of every secret in *config* that is written out instead of as a reference like `${VAR}`."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from find_literal_secrets(value, (*path, str(key)))
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            yield from find_literal_secrets(value, (*path, str(index)))
    elif isinstance(config, str) and config and not is_reference(config):
        has_secret_key = any(is_secret(key) for key in path) and not is_plain_key_field(path)
        if has_secret_key or guess_line_masks(config):
            yield ".".join(path)


def guess_file_masks(lines: Sequence[str]) -> dict[int, list[Range]]:
    """Return the ranges that look secret in *lines*, by line (from 0), continuations of multi-line secrets included."""
    masks: dict[int, list[Range]] = {}
    key_indent: int | None = None  # of the secret key above, None if the last key is none
    is_block, open_quote = False, ""
    for number, line in enumerate(lines):
        if open_quote:
            continues = True
            open_quote = "" if open_quote in line else open_quote
        else:
            is_deeper = key_indent is not None and (_measure_indent(line) > key_indent or not line.strip())
            continues = is_deeper and (is_block or not _KEY_LINE.match(line))
        if continues:
            masks[number] = [(_measure_indent(line), len(line.rstrip()))]
            continue
        masks[number] = guess_line_masks(line)
        ends = [pair.end() for pair in _PAIR.finditer(line + " ~") if is_secret(pair[2])]
        value = line[ends[-1] :].strip() if ends else ""
        key_indent = _measure_indent(line) if ends else None
        is_block = _BLOCK_HEADER.match(value) is not None
        open_quote = value[:1] if value[:1] in {'"', "'"} and value[:1] not in value[1:] else ""
    return masks


def _measure_indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def apply_masks(line: str, ranges: Iterable[Range]) -> tuple[str, list[tuple[Range, Range]]]:
    """Return *line* with each of *ranges* replaced by `***`, and each masked range before and after the replacement."""
    pieces: list[str] = []
    shifts: list[tuple[Range, Range]] = []
    end_of_previous = length = 0
    for start, end in join_ranges(ranges):
        pieces += (line[end_of_previous:start], MASK)
        length += start - end_of_previous
        shifts.append(((start, end), (length, length + len(MASK))))
        length += len(MASK)
        end_of_previous = end
    return "".join((*pieces, line[end_of_previous:])), shifts


def join_ranges(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield *ranges* in order and without overlap; adjacent ones are joined, and empty ones dropped."""
    last: Range | None = None
    for start, end in sorted(ranges):
        if end <= start:
            continue
        if last is None:
            last = start, end
        elif start <= last[1]:
            last = last[0], max(last[1], end)
        else:
            yield last
            last = start, end
    if last is not None:
        yield last


def redact_text(text: str, limit: int = 60) -> str:
    """Return *text* for a message: on one line, with secrets masked, at most *limit* characters long."""
    line = " ".join(text.split())
    masked, _ = apply_masks(line, guess_line_masks(line))
    return masked if len(masked) <= limit else f"{masked[: limit - 3]}..."
