"""The blocks of an answer while it comes in."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal

from modelhub.providers.json_text import LAST_BEFORE_SURROGATES, REPLACEMENT, clean_text, is_high_surrogate

__all__ = ["AnswerPart", "PartKind"]

PartKind = Literal["text", "thinking", "tool_use", "image", "audio", "video", "document", "provider_item"]


class AnswerPart:
    """One block in the making: its text only grows, and can be read at every length it has had.

    `pieces` are those of the text. `fields` is replaced, never changed: snapshots hold on to what they saw.
    """

    __slots__ = ("_half", "_joined", "_length", "fields", "key", "kind", "pieces")

    def __init__(self, kind: PartKind, key: Hashable, fields: dict[str, Any]) -> None:
        self.kind = kind
        self.key = key
        self.fields = fields
        self.pieces: list[str] = []
        self._half = ""
        self._joined = ""
        self._length = 0

    def text(self, length: int) -> str:
        """Return the text as it was after *length* pieces."""
        if length < self._length:
            return "".join(self.pieces[:length])
        if length > self._length:
            self._joined = "".join((self._joined, *self.pieces[self._length : length]))
            self._length = length
        return self._joined

    def add(self, piece: str) -> str:
        """Add *piece* and return what was added: half a character at its end waits for the other half."""
        if self._half or (
            not piece.isascii() and (piece[0] > LAST_BEFORE_SURROGATES or piece[-1] > LAST_BEFORE_SURROGATES)
        ):
            piece, self._half = self._half + piece, ""
            if is_high_surrogate(piece[-1]):
                piece, self._half = piece[:-1], piece[-1]
            piece = clean_text(piece)
        if piece:
            self.pieces.append(piece)
        return piece

    def end(self) -> str:
        """Return what is added in the place of half a character whose other half never came."""
        if not self._half:
            return ""
        self._half = ""
        self.pieces.append(REPLACEMENT)
        return REPLACEMENT
