"""`modelhub init`, and what a shell completes."""

from __future__ import annotations

import pytest
import yaml

from modelhub import Hub
from modelhub.cli.exit import Exit
from modelhub.cli.init import STARTERS
from tests.tables import table


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for starter in STARTERS:
        for name in starter.variables:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture(name="elsewhere")
def _elsewhere(config):
    """A directory without a file."""
    config.unlink()
    return config.parent


def test_the_file_has_the_models_whose_keys_are_set(run, elsewhere, monkeypatch):
    """A chain of them, and a scripted model as the last."""
    monkeypatch.setenv("GOOGLE_API_KEY", "secret-1")
    monkeypatch.setenv("OPENAI_API_KEY", "secret-2")
    result = run("init")
    assert "chain `primary`: gpt > gemini > offline" in result.stderr
    text = (elsewhere / "models.yaml").read_text(encoding="utf-8")
    assert "secret" not in text
    file = yaml.safe_load(text)
    assert file["models"]["gemini"]["api_key"] == "${GOOGLE_API_KEY}"
    assert run("check", "--strict").exit_code == Exit.OK


def test_every_model_that_can_be_in_the_file_loads(run, elsewhere, monkeypatch):
    """With every key set, all of them are there and ready."""
    for starter in STARTERS:
        monkeypatch.setenv(starter.variables[-1], "any")
    run("init", "deploy/models.yaml")
    with Hub.from_yaml(elsewhere / "deploy" / "models.yaml") as hub:
        assert {*hub} == {*(starter.name for starter in STARTERS), "offline", "primary"}
    assert run("check", "--strict", "--file", "deploy/models.yaml").exit_code == Exit.OK


def test_without_keys_the_file_says_which_to_set(run, elsewhere):
    """The chain still answers, by its scripted model."""
    assert "set OPENAI_API_KEY, ANTHROPIC_API_KEY, or change the file" in run("init").stderr
    assert run("chat", "primary", "hi").stdout == "The assistant is not available at the moment.\n"


def test_a_file_that_exists_is_kept(run, config):
    """Unless `--force` says otherwise."""
    before = config.read_text(encoding="utf-8")
    result = run("init")
    assert result.exit_code == Exit.FAILED
    assert "models.yaml exists; --force replaces it" in result.stderr
    assert config.read_text(encoding="utf-8") == before
    assert run("init", "--force").exit_code == Exit.OK
    assert config.read_text(encoding="utf-8") != before


@table(
    ("typed", "completed"),
    [
        ("modelhub chat pri", ["primary"]),
        ("modelhub explain f", ["failing", "flaky"]),
        ("modelhub fit --file other.yaml m", ["mine"]),
        ("modelhub chat --file none.yaml p", []),
    ],
)
def test_a_shell_completes_the_names_of_the_file(run, config, monkeypatch, typed, completed):
    """Names of chains and models; nothing, and no error, without a file."""
    (config.parent / "other.yaml").write_text("{version: 1, models: {mine: {provider: scripted}}}", encoding="utf-8")
    monkeypatch.setenv("_MODELHUB_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert run().stdout.split() == completed
