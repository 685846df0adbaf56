"""Compare two configurations: which models, chains and other settings were added, removed or changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal, NamedTuple, get_args

from modelhub.config.load import Loaded
from modelhub.config.origins import Origin
from modelhub.config.secrets import MASK

__all__ = ["ConfigChanges", "EntryChange", "SettingChange", "compare"]

Kind = Literal["model", "chain", "limit", "budget", "setting"]
"""What an entry is; a "setting" is a section of the file that is not divided into named entries, such as `usage:`."""
_KINDS: tuple[Kind, ...] = get_args(Kind)


class SettingChange(NamedTuple):
    """One value that is not the same: its `path` in the entry ("retry.max_attempts"), and how it was and is written.

    None stands for a value that is not in the file and has no default; secrets are `***`, references as they are.
    """

    path: str
    old: str | None
    new: str | None

    @property
    def is_hidden(self) -> bool:
        """Whether it is all that can be said that the value has changed: it is secret, or written as before."""
        return self.old == self.new or MASK in {self.old, self.new}

    def __str__(self) -> str:
        if self.is_hidden:
            return f"{self.path}: changed"
        old, new = ("nothing" if text is None else text for text in (self.old, self.new))
        return f"{self.path}: {old} -> {new}"


class EntryChange(NamedTuple):
    """A model, a chain or another entry that is not the same; `settings` are empty if it was added or removed."""

    kind: Kind
    name: str
    change: Literal["added", "removed", "changed"]
    settings: tuple[SettingChange, ...] = ()

    def __str__(self) -> str:
        subject = f"`{self.name}`" if self.kind == "setting" else f"{self.kind} `{self.name}`"
        listed = "; ".join(map(str, self.settings))
        return f"{subject} {self.change}{f' ({listed})' if listed else ''}"


class ConfigChanges(NamedTuple):
    """What differs between two configurations; false if nothing does."""

    entries: tuple[EntryChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __str__(self) -> str:
        return ", ".join(map(str, self.entries)) or "nothing has changed"

    def as_list(self) -> list[dict[str, Any]]:
        """Return the changes as a JSON-compatible list."""
        return [
            {
                "kind": entry.kind,
                "name": entry.name,
                "change": entry.change,
                "settings": [{"path": item.path, "old": item.old, "new": item.new} for item in entry.settings],
            }
            for entry in self.entries
        ]


def compare(old: Loaded, new: Loaded) -> ConfigChanges:
    """Return what differs in *new* from *old*, by the values with the defaults and the references filled in."""
    before, after = old.list_settings(), new.list_settings()
    changes: list[EntryChange] = []
    for key in sorted(dict.fromkeys([*before, *after]), key=lambda key: _KINDS.index(key[0])):
        kind, name = key
        if key not in after:
            changes.append(EntryChange(kind, name, "removed"))
        elif key not in before:
            changes.append(EntryChange(kind, name, "added"))
        elif settings := tuple(_compare_settings(before[key], after[key])):
            changes.append(EntryChange(kind, name, "changed", settings))
    return ConfigChanges(tuple(changes))


def _compare_settings(old: tuple[Origin, ...], new: tuple[Origin, ...]) -> Iterator[SettingChange]:
    before, after = ({origin.path: origin for origin in _join_lists(origins)} for origins in (old, new))
    for path in dict.fromkeys([*before, *after]):
        first, second = before.get(path), after.get(path)
        shown = [None if origin is None else origin.shown for origin in (first, second)]
        prints = {origin.fingerprint for origin in (first, second) if origin is not None and origin.fingerprint}
        is_same_number = first is not None and second is not None and first.number == second.number is not None
        if not is_same_number and (shown[0] != shown[1] or len(prints) > 1):
            yield SettingChange(path, *shown)


def _join_lists(origins: tuple[Origin, ...]) -> Iterator[Origin]:
    """Yield *origins* with the items of a list of plain values as one: `models.0` and `models.1` as `models`."""
    for path, group in groupby(origins, lambda origin: re.sub(r"\.\d+$", ".", origin.path)):
        items = list(group)
        if not path.endswith("."):
            yield items[0]
            continue
        shown = f"[{', '.join(item.shown for item in items)}]"
        prints = hash(tuple(item.fingerprint for item in items))
        yield replace(items[0], path=path.removesuffix("."), shown=shown, fingerprint=prints, number=None)
