"""What must never be shown: which keys hold secrets, and where secret text stands in a line.

Two ways lead there. Of a file that parses, the tree tells exactly which values belong to secret keys. Of one that does
not, and of comments, a line is read by its look, and rather too much is hidden than too little.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

__all__ = [
    "MASK",
    "Range",
    "apply_masks",
    "guess_in_file",
    "guess_in_line",
    "is_reference",
    "is_secret",
    "join_ranges",
    "shown",
]

MASK = "***"

Range = tuple[int, int]
"""A stretch of one line: from a column to before another, both counted from 0."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_SECRET_WORDS = re.compile(
    "api[_-]?key|auth|authorization|bearer|cookies?|credentials?|keys?|passphrase|passwd|password|pwd|secrets?|token"
)
_SECRET_PART = re.compile("key|auth|bearer|cookie|credential|pass|pwd|secret|token")
"""What a name has in it if it has a secret word."""
_COUNTED = re.compile("first|input|last|max|min|output|total")
"""Before `token`, these make a count or a time of it: `first_token` is no secret."""
_SPELLINGS = ("apikey", "authorization", "password", "passphrase", "secret", "credentials")
_LETTERS = re.compile("[a-z]+")

_REFERENCE = re.compile(r"\$\{(?:[A-Za-z_]\w*|file:[^{}]*)\}")
_VALUE_IS_REFERENCE = re.compile(r"""(["']?)\$\{(?:[A-Za-z_]\w*|file:[^{}]*)\}\1\s*(?:[,}\]#]|$)""")
# Each begins where a word does, and what it has taken it does not give back: the search is linear in the line.
_PAIR = re.compile(r"""(?<![\w.-])(["']?)([\w.-]++)\1\s*+[:=]\s*+(?=\S)""")
_SIGNATURE = re.compile(r"[?&](?:sig|signature|code|sas)=([^&\s\"'#]+)", re.IGNORECASE)
"""What an address may carry for a key: of storage and functions in Azure, of signed links."""
_WITHOUT_SPACE = re.compile(r"\S+")
_MAX_NAME = 60
_KEY_LINE = re.compile(r"""\s*(?:-\s+)?(["']?)[\w.$-]+\1\s*:(?:\s|$)""")
_BLOCK_HEADER = re.compile(r"[|>][+-]?\d?[+-]?\s*(?:#.*)?$")
_LOOKS_SECRET = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|ghp|gho|ghs)[-_][\w-]{8,}"
    r"|\bAIza[\w-]{10,}"
    r"|\bBearer\s+[^\s\"',}]+"
    r"|\beyJ[\w.-]{10,}"
    r"|\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{32,}\b"
)


@lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Whether a key of this *name*, or of one that was probably meant by it, holds a secret."""
    if len(name) > _MAX_NAME:  # no key of anybody's; its ends are enough
        name = f"{name[:_MAX_NAME]} {name[-_MAX_NAME:]}"
    lower = name.lower()
    if _SECRET_PART.search(lower) and _has_secret_word(name):
        return True
    return lower.endswith(("headers", "query")) or _is_misspelt("".join(_LETTERS.findall(lower)))


def _has_secret_word(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    return any(
        _SECRET_WORDS.fullmatch(word) and not (word == "token" and _COUNTED.fullmatch(before))
        for before, word in zip(["", *words], words, strict=False)
    )


@lru_cache(maxsize=1024)
def _is_misspelt(letters: str) -> bool:
    """Whether *letters* are nearly those of a key that holds a secret."""
    pairs = {letters[at : at + 2] for at in range(len(letters) - 1)}
    # Comparing is slow, and what has not two letters in common in their order is not alike.
    near = [spelling for spelling, own in _SPELLING_PAIRS.items() if not own.isdisjoint(pairs)]
    return bool(difflib.get_close_matches(letters, near, 1, 0.75))


_SPELLING_PAIRS = {word: {word[at : at + 2] for at in range(len(word) - 1)} for word in _SPELLINGS}


def is_reference(text: str) -> bool:
    """Whether *text* only points at a secret, `${VAR}` or `${file:...}`, and may be shown."""
    return _REFERENCE.fullmatch(text) is not None


def guess_in_line(line: str) -> list[Range]:
    """Where *line* has, by its look, secret text: the rest of the line after a secret key, or what looks like a key."""
    found = [match.span() for match in _LOOKS_SECRET.finditer(line)]
    if "@" in line:
        found += _find_passwords(line)
    if "=" in line:
        found += [match.span(1) for match in _SIGNATURE.finditer(line)]
    pairs = [pair for pair in _PAIR.finditer(line) if is_secret(pair[2])]
    literal = [pair.end() for pair in pairs if not _VALUE_IS_REFERENCE.match(line, pair.end())]
    return found + [(start, len(line.rstrip())) for start in literal]


def _find_passwords(line: str) -> Iterator[Range]:
    """Yield where *line* has names and passwords of addresses, whether escaped or not."""
    for word in _WITHOUT_SPACE.finditer(line):
        start, end = word[0].find("://"), word[0].rfind("@")
        if 0 <= start < end:
            yield word.start() + start + 3, word.start() + end


def guess_in_file(lines: Sequence[str]) -> dict[int, list[Range]]:
    """The same for a whole file that does not parse, by line (from 0): secrets that go on over lines included."""
    found: dict[int, list[Range]] = {}
    tail = _Tail()
    for number, line in enumerate(lines):
        if tail.goes_on(line):
            found[number] = [(_indent(line), len(line.rstrip()))]
            continue
        found[number] = guess_in_line(line)
        tail = _Tail.after(line)
    return found


class _Tail:
    """What may follow a secret key's line and still be its value."""

    def __init__(self, indent: int = 0, quote: str = "", *, block: bool = False, secret: bool = False) -> None:
        self.indent = indent
        self.quote = quote
        self.block = block
        self.secret = secret

    @classmethod
    def after(cls, line: str) -> _Tail:
        secrets = [pair for pair in _PAIR.finditer(line + " ~") if is_secret(pair[2])]
        if not secrets:
            return cls()
        value = line[secrets[-1].end() :].strip()
        quote = value[:1] if value[:1] in {'"', "'"} and value[:1] not in value[1:] else ""
        return cls(_indent(line), quote, block=_BLOCK_HEADER.match(value) is not None, secret=True)

    def goes_on(self, line: str) -> bool:
        if self.quote:
            self.quote = "" if self.quote in line else self.quote
            return True
        deeper = self.secret and (_indent(line) > self.indent or not line.strip())
        if not deeper:
            self.secret = False
        return deeper and (self.block or not _KEY_LINE.match(line))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def apply_masks(line: str, ranges: Iterable[Range]) -> tuple[str, list[tuple[Range, Range]]]:
    """*line* with every one of *ranges* as `***`, and where each masked stretch stands before and after."""
    pieces: list[str] = []
    moved: list[tuple[Range, Range]] = []
    done = length = 0
    for start, end in join_ranges(ranges):
        pieces += (line[done:start], MASK)
        length += start - done
        moved.append(((start, end), (length, length + len(MASK))))
        length += len(MASK)
        done = end
    return "".join((*pieces, line[done:])), moved


def join_ranges(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield *ranges* in order and without overlap; those that touch become one, and empty ones are left out."""
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


def shown(text: str, limit: int = 60) -> str:
    """*text* for a message: on one line, without what looks secret, not longer than *limit*."""
    line = " ".join(text.split())
    masked, _ = apply_masks(line, guess_in_line(line))
    return masked if len(masked) <= limit else f"{masked[: limit - 3]}..."
