"""YAML as the file has it: scalars as YAML 1.2 reads them, anchors and merged mappings, places of everything."""

from __future__ import annotations

import math
from typing import Any

import pytest

from modelhub.config.source import parse_document, parse_plain_value
from tests.tables import table


def read(text: str) -> Any:
    """The data of a text."""
    return parse_document(text, "models.yaml")[0].data


@table(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("on", "on"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("n", "n"),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("200_000", 200000),
        ("-7", -7),
        ("007", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("2025-01-01", "2025-01-01"),
        ("2025-01-01T10:00:00Z", "2025-01-01T10:00:00Z"),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.5e-3", 0.0015),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("5s", "5s"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("claude-sonnet-5", "claude-sonnet-5"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    """A bare scalar is what YAML 1.2 says, in the file and from a variable alike."""
    for found in (read(f"a: {text}\n")["a"], parse_plain_value(text)):
        assert value == found
        assert type(value) is type(found)


@table("quoted", ["'{}'", '"{}"', "!!str {}"])
@table("text", ["true", "5", "1.5", "null"])
def test_quotes_make_text(quoted: str, text: str) -> None:
    """Quotes, or the tag for it, make text of anything."""
    assert text == read(f"a: {quoted.format(text)}\n")["a"]


@table("tag", ["!!int x", "!!bool yes", "!!float x"])
def test_tag_that_does_not_fit(tag: str) -> None:
    """A tag that says something else than its value is a problem."""
    _, report = parse_document(f"a: {tag}\n", "models.yaml")
    with pytest.raises(ValueError, match="which its tag asks for"):
        report.check()


def test_keys_are_text() -> None:
    """A key is text, whatever it looks like."""
    assert read("50256: -100\ntrue: 1\nnull: 2\n") == {"50256": -100, "true": 1, "null": 2}


def test_merge() -> None:
    """`<<` takes over what is not said; of several, the first one wins; its own keys win over all."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\n"
    text += "d: {<<: *a, '<<': 5}\ne: {<<: {<<: *b, y: 4}}\n"
    data = read(text)
    assert data["c"] == {"x": 3, "y": 1, "z": 2}
    assert data["d"] == {"x": 1, "y": 1, "<<": 5}
    assert data["e"] == {"y": 4, "z": 2}


def test_places() -> None:
    """Every key and value has its place, counted from 1 and in characters."""
    document, _ = parse_document("é😀: {'😀': 5, b: [c,\n  d]}\n", "models.yaml")
    key = document.find_span(("é😀", "b"), key=True)
    item = document.find_span(("é😀", "b", 1))
    assert key is not None
    assert item is not None
    assert (key.line, key.column) == (1, 14)
    assert (item.line, item.column) == (2, 3)


def test_merged_place_is_where_it_is_written() -> None:
    """A value that was taken over stands where it was written."""
    document, _ = parse_document("a: &a\n  x: 1\nb:\n  <<: *a\n", "models.yaml")
    assert document.find_line(("b", "x")) == 2
    assert document.find_line(("b",)) == 3
