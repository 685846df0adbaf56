"""The JSON Schema that editors use: it says the same as the loader, and is not stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from modelhub import registry
from modelhub.config.jsonschema import build_file_schema, write_schema
from modelhub.config.source import parse_document
from modelhub.options import Duration, ProviderOptions
from tests.tables import table

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "schemas" / "models.schema.json"


def mistakes(schema: dict[str, Any], text: str) -> list[str]:
    """Where *schema* finds something wrong with *text*."""
    data = parse_document(text, "models.yaml")[0].data
    return [error.json_path for error in Draft202012Validator(schema).iter_errors(data)]


@cache
def made_once() -> dict[str, Any]:
    return build_file_schema(builtin_only=True)


@pytest.fixture(name="schema")
def _schema() -> dict[str, Any]:
    """The schema of what is built in and the tests' own provider, which is there while a test runs."""
    return made_once()


def test_schema_is_one(schema: dict[str, Any]) -> None:
    """It is a valid schema of its dialect."""
    Draft202012Validator.check_schema(schema)


def test_shipped_schema_is_not_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped file is what would be written now; if not, `make fix` writes it."""
    monkeypatch.delitem(registry.PROVIDERS, "acme")
    write_schema(tmp_path / "models.schema.json")
    assert (tmp_path / "models.schema.json").read_bytes() == SHIPPED.read_bytes()


def test_third_parties_are_not_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens to be installed here is in this machine's schema, not in the shipped one."""

    class OtherOptions(ProviderOptions):
        """Somebody's."""

    class Point:
        value = "x:y"
        dist = None

        def load(self) -> type[ProviderOptions]:
            return OtherOptions

    monkeypatch.setattr("modelhub.registry.find_plugins", lambda group: {"other": Point()} if "prov" in group else {})
    assert "other-model" in build_file_schema()["$defs"]
    assert "other-model" not in build_file_schema(builtin_only=True)["$defs"]


def test_good_files(schema: dict[str, Any], sample: str, shipped: str) -> None:
    """Files that load have no mistakes in an editor."""
    assert mistakes(schema, sample) == []
    assert mistakes(schema, shipped) == []


def _example_files() -> Iterator[Path]:
    for path in sorted((ROOT / "examples").rglob("*.yaml")):
        if "models:" in path.read_text(encoding="utf-8"):
            yield path


def test_examples(schema: dict[str, Any]) -> None:
    """The examples' files have no mistakes."""
    found = {path.name: mistakes(schema, path.read_text(encoding="utf-8")) for path in _example_files()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


HEAD = "version: 1\nmodels:\n  gpt:\n    provider: acme\n    model_name: a\n"


@table(
    "lines",
    [
        "    retires: {}\n",
        "    timeout: {totl: 5}\n",
        "    timeout: {total: soon}\n",
        "    timeout: {first_token: 30000}\n",
        "    timeout: 5s\n",
        "    stream: yes\n",
        "    max_tokens: many\n",
        "    max_tokens: true\n",
        "    effort: hihg\n",
        "    limit: {concurency: 1}\n",
        "    api_key: 5\n",
        "modles: {}\n",
        "limits: {t: {rpm: 1}}\n",
        "limits: {t: {concurrency: 0}}\n",
        "chains: {c: {}}\n",
        "chains: {c: {models: gpt}}\n",
        "chains: {c: {models: []}}\n",
        "chains: {$c: {models: [gpt]}}\n",
        "chains: {c: {models: [gpt], deadline: 2 days}}\n",
        "defaults: {retires: {}}\n",
        "  two: {provider: acne, model_name: a}\n",
        "  two: {model_name: a}\n",
        "  two: {provider: acme}\n",
        "  $wo: {provider: acme, model_name: a}\n",
    ],
)
def test_mistakes_are_flagged(schema: dict[str, Any], lines: str) -> None:
    """What the loader refuses, the editor underlines."""
    assert mistakes(schema, HEAD) == []
    assert mistakes(schema, HEAD + lines) != []


@table(
    "lines",
    [
        "    timeout: {total: '${T}', idle: 500ms, connect: 5}\n",
        "    stream: ${S:-true}\n",
        "    max_tokens: ${N:-5}\n",
        "    max_tokens: '200_000'\n",
        "    effort: ${E}\n",
        "    limit: ${L}\n",
        "    limit: {concurrency: '${C}'}\n",
        "    api_key: ${file:/run/key}\n",
        "    retry: null\n",
        "    client_kwargs: {anything: [1, {a: null}]}\n",
        "    generate_kwargs: {temperature: 0.2, x: {y: z}}\n",
        "  two: {provider: '${KIND}', model_name: a, whatever: 5}\n",
        "chains: {c: {models: [gpt, '${M}'], deadline: '${D}', stream: '${S}'}}\n",
        "limits: {t: {tokens_per_minute: 200_000}}\n",
    ],
)
def test_good_lines(schema: dict[str, Any], lines: str) -> None:
    """References, durations, free mappings and later names are no mistakes."""
    assert mistakes(schema, HEAD + lines) == []


def test_bounds_of_durations_are_whole_numbers_however_they_are_written() -> None:
    """Durations with equal bounds are one annotation to Python; the schema does not depend on which came first."""
    for bounds in ((0, 60), (0.0, 60.0)):
        number = Duration(*bounds).__get_pydantic_json_schema__({}, None)["anyOf"][0]  # type: ignore[arg-type, typeddict-item]
        assert (repr(number["minimum"]), repr(number["maximum"])) == ("0", "60")


def test_every_key_is_described(schema: dict[str, Any]) -> None:
    """An editor shows what each key means."""
    bare = [
        f"{name}.{key}"
        for name, definition in schema["$defs"].items()
        for key, found in definition.get("properties", {}).items()
        if name != "model" and "description" not in found
    ]
    assert bare == []


def test_nothing_unknown_is_allowed(schema: dict[str, Any]) -> None:
    """Every mapping with known keys refuses others."""
    mappings = {name: found for name, found in schema["$defs"].items() if found.get("type") == "object"}
    open_ones = [name for name, found in mappings.items() if found.get("additionalProperties") is not False]
    assert open_ones == ["model"]  # which refers to one definition for each provider


def test_written_file_ends_well() -> None:
    """The file, which is what would be written now, is JSON and ends with a line break."""
    text = SHIPPED.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert json.loads(text)["$defs"]
