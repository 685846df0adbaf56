"""A good file, broken in hundreds of ways: each is a located error or still a valid file, and nothing is ignored.

MODELHUB_LONG=1 breaks it in more ways.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelhub.config.load import Loaded, load_text
from modelhub.config.schema import HubConfig, find_model_class, get_keys, make_defaults_class, make_entry_class
from modelhub.config.source import Path, parse_document
from modelhub.core.errors import ConfigError

VALUES = [
    "",
    "5",
    "-1",
    "0",
    "true",
    "null",
    "text",
    "[1]",
    "[]",
    "{a: 1}",
    "{}",
    "1e99",
    ".nan",
    "30000",
    "'",
    "${",
    "*a",
]
BARE_KEY = re.compile(r"([\w.-]+):(?=\s|$)")


def drop(rng: random.Random, lines: list[str], at: int) -> None:
    """A line is lost."""
    del lines[at]


def repeat(rng: random.Random, lines: list[str], at: int) -> None:
    """A line stands twice."""
    lines.insert(at, lines[at])


def swap(rng: random.Random, lines: list[str], at: int) -> None:
    """Two lines change places."""
    other = rng.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def indent(rng: random.Random, lines: list[str], at: int) -> None:
    """A line is moved in."""
    lines[at] = rng.choice([" ", "  ", "\t"]) + lines[at]


def dedent(rng: random.Random, lines: list[str], at: int) -> None:
    """A line is moved out."""
    lines[at] = lines[at][rng.choice([1, 2]) :] if lines[at].startswith("  ") else lines[at]


def retype(rng: random.Random, lines: list[str], at: int) -> None:
    """A value is of another kind."""
    head, colon, _ = lines[at].partition(": ")
    lines[at] = f"{head}: {rng.choice(VALUES)}" if colon else lines[at]


def rename(rng: random.Random, lines: list[str], at: int) -> None:
    """A key is misspelt."""
    keys = list(BARE_KEY.finditer(lines[at]))
    if keys:
        key = rng.choice(keys)
        name = key[1]
        cut = rng.randrange(len(name))
        wrong = rng.choice(
            [name[:cut] + name[cut + 1 :], name[:cut] + name[cut] + name[cut:], name + "s", name.upper()]
        )
        lines[at] = lines[at][: key.start(1)] + wrong + lines[at][key.end(1) :]


def spoil(rng: random.Random, lines: list[str], at: int) -> None:
    """One character is lost or another one."""
    line = lines[at] or " "
    cut = rng.randrange(len(line))
    lines[at] = line[:cut] + rng.choice(["", ":", "'", "{", "]", "#", "&", "\t", "-", ","]) + line[cut + 1 :]


WAYS: list[Callable[[random.Random, list[str], int], None]] = [
    drop,
    repeat,
    swap,
    indent,
    dedent,
    retype,
    retype,
    rename,
    spoil,
]


def tried(text: str) -> Loaded | ConfigError:
    """What loading *text* gives, or why it does not."""
    try:
        return load_text(text, environ={})
    except ConfigError as error:
        return error


SEEDS = [range(first, first + 10) for first in range(0, 300 if os.environ.get("MODELHUB_LONG") else 80, 10)]


@pytest.mark.parametrize("which", ["sample", "shipped"])
@pytest.mark.parametrize("seeds", SEEDS, ids=[f"{seeds[0]}-{seeds[-1]}" for seeds in SEEDS])
def test_mutation(seeds: range, which: str, request: pytest.FixtureRequest) -> None:
    """A broken line gives problems with places, or a file that is still valid; never another exception."""
    for seed in seeds:
        try:
            mutate(seed, request.getfixturevalue(which).splitlines())
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


def mutate(seed: int, lines: list[str]) -> None:
    """Break *lines* in a way of *seed*, and look at what loading them gives."""
    rng = random.Random(seed)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        rng.choice(WAYS)(rng, lines, rng.randrange(len(lines)))
    found = tried("\n".join(lines) + "\n")
    if isinstance(found, ConfigError):
        for problem in found.problems:
            assert (problem.file, problem.line > 0, problem.column > 0) == ("models.yaml", True, True)
            assert problem.excerpt
            assert problem.message
        assert len({(problem.line, problem.column) for problem in found.problems}) == len(found.problems)


def free(path: Path, data: Any) -> bool:
    """Whether the key at the end of *path* may be anything: a name, or below a free mapping."""
    section, *inside = path
    if not inside:
        return False
    if section == "defaults":
        return _free_in(make_defaults_class(), inside)
    if len(inside) == 1:
        return True
    if section == "models":
        return _free_in(make_entry_class(data["models"][inside[0]]["provider"]), inside[1:])
    cls = find_model_class(HubConfig.model_fields[str(section)].annotation)
    return cls is not None and _free_in(cls, inside[1:])


def _free_in(cls: Any, inside: list[str | int]) -> bool:
    key, *rest = (part for part in inside if isinstance(part, str))
    inner = find_model_class(get_keys(cls)[key].annotation)
    return bool(rest) and (inner is None or _free_in(inner, rest))


def renamed(text: str) -> Iterator[tuple[Path, str]]:
    """*text* with each of its keys misspelt in turn, and the path of the key."""
    document, _ = parse_document(text, "models.yaml")
    for path, place in document.places.items():
        if not path or place.key is None or free(path, document.data):
            continue
        lines = text.splitlines()
        line = lines[place.key.line - 1]
        lines[place.key.line - 1] = line[: place.key.end_column - 1] + "x" + line[place.key.end_column - 1 :]
        yield path, "\n".join(lines) + "\n"


@pytest.mark.parametrize("which", ["sample", "shipped"])
def test_no_key_is_ignored(which: str, request: pytest.FixtureRequest) -> None:
    """Whichever key is misspelt, the file does not load, and the error points at that key."""
    text = request.getfixturevalue(which)
    count = 0
    for path, broken in renamed(text):
        found = tried(broken)
        assert isinstance(found, ConfigError), path
        assert any(f"`{path[-1]}x`" in problem.message for problem in found.problems), (path, str(found))
        count += 1
    assert count > 20


@pytest.mark.parametrize("which", ["sample", "shipped"])
def test_no_name_leads_nowhere(which: str, request: pytest.FixtureRequest) -> None:
    """Whichever model, chain or limit that others name is renamed, the file does not load."""
    text = request.getfixturevalue(which)
    data = parse_document(text, "models.yaml")[0].data
    named = {member for chain in data["chains"].values() for member in chain["models"]}
    named |= {entry["limit"] for entry in data["models"].values() if isinstance(entry.get("limit"), str)}
    for name in named:
        broken = re.sub(rf"^(\s+){re.escape(name)}:", rf"\1{name}x:", text, flags=re.MULTILINE)
        assert broken != text
        assert isinstance(tried(broken), ConfigError), name
