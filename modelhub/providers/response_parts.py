"""The blocks of an answer while it comes in."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal

from modelhub.providers.unicode_text import LAST_BEFORE_SURROGATES, REPLACEMENT, clean_text, is_high_surrogate

__all__ = ["AnswerPart", "GrowingText", "PartKind"]

PartKind = Literal["text", "thinking", "tool_use", "image", "audio", "video", "document", "provider_item"]


class GrowingText:
    """Text that only grows, readable at every length it has had."""

    __slots__ = ("_joined", "_length", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._joined = ""
        self._length = 0

    def prefix(self, length: int) -> str:
        """Return the text as it was after *length* pieces."""
        if length < self._length:
            return "".join(self.pieces[:length])
        if length > self._length:
            self._joined = "".join((self._joined, *self.pieces[self._length : length]))
            self._length = length
        return self._joined


class AnswerPart:
    """One block in the making. `fields` is replaced, never changed: snapshots hold on to what they saw."""

    __slots__ = ("fields", "half", "key", "kind", "text")

    def __init__(self, kind: PartKind, key: Hashable, fields: dict[str, Any]) -> None:
        self.kind = kind
        self.key = key
        self.text = GrowingText()
        self.fields = fields
        self.half = ""

    def add(self, piece: str) -> str:
        """Add *piece* and return what was added: half a character at its end waits for the other half."""
        if self.half or (
            not piece.isascii() and (piece[0] > LAST_BEFORE_SURROGATES or piece[-1] > LAST_BEFORE_SURROGATES)
        ):
            piece, self.half = self.half + piece, ""
            if is_high_surrogate(piece[-1]):
                piece, self.half = piece[:-1], piece[-1]
            piece = clean_text(piece)
        if piece:
            self.text.pieces.append(piece)
        return piece

    def end(self) -> str:
        """Return what is added in the place of half a character whose other half never came."""
        if not self.half:
            return ""
        self.half = ""
        self.text.pieces.append(REPLACEMENT)
        return REPLACEMENT
