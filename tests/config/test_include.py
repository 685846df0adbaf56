"""A file includes others and has profiles: what comes later wins, and everything keeps its place."""

import json

import pytest

from modelhub import ConfigError, Hub
from modelhub.cli.application import app
from modelhub.config.load import load_dict, load_file
from modelhub.testing import FaultServer, reroute_config

BASE = """\
version: 1
defaults:
  retry: {max_attempts: 2, initial_wait: 1s}
models:
  a:
    provider: scripted
    reply: base
    timeout: {total: 9s, idle: 5s}
  b: {provider: scripted, reply: b}
chains:
  main: {models: [a, b], deadline: 30s}
budgets:
  daily: {tokens: 100, per: day}
"""
MAIN = """\
version: 1
include: [base.yaml]
defaults:
  retry: {max_attempts: 3}
models:
  a:
    timeout: {total: 7s}
  c: {provider: scripted, reply: c}
chains:
  main: {models: [c, a]}
profiles:
  staging:
    models:
      a: {reply: staged}
    budgets: {daily: null}
  eu:
    chains: {main: {models: [b]}}
"""


@pytest.fixture(name="folder")
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODELHUB_PROFILE", raising=False)
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "models.yaml").write_text(MAIN)
    return tmp_path


def problems_of(path="models.yaml", **options):
    with pytest.raises(ConfigError) as caught:
        load_file(path, **options)
    return [f"{problem.file}:{problem.line}:{problem.column}: {problem.message}" for problem in caught.value.problems]


def test_mappings_are_merged_and_everything_else_is_replaced(folder):
    """Key by key, at any depth; a list is a whole."""
    loaded = load_file("models.yaml")
    timeout, retry = (loaded.models["a"].layers[key] for key in ("timeout", "retry"))
    assert (timeout.total, timeout.idle, retry.max_attempts, retry.initial_wait) == (7.0, 5.0, 3, 1.0)
    assert (loaded.chains["main"].models, loaded.chains["main"].deadline) == (["c", "a"], 30.0)
    assert list(loaded.models) == ["a", "b", "c"]
    assert (loaded.profile, list(loaded.config.budgets)) == (None, ["daily"])


def test_a_later_file_of_the_list_wins_over_an_earlier_one(folder):
    """And each file over those that it includes, relative to its own folder, whatever leads to it."""
    (folder / "more").mkdir()
    (folder / "more" / "first.yaml").write_text(
        "include: ../base.yaml\nmodels: {a: {reply: first}, b: {reply: first}}\n"
    )
    (folder / "more" / "second.yaml").write_text("models: {a: {reply: second}}\n")
    (folder / "models.yaml").write_text("version: 1\ninclude: [more/first.yaml, more/second.yaml]\n")
    loaded = load_file("models.yaml")
    assert [loaded.models[name].options.reply for name in "ab"] == ["second", "first"]


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_a_profile_is_put_on_top(folder, by):
    """By an argument, or by the variable; a null removes what was there."""
    options = {"profile": "staging"} if by == "argument" else {"environ": {"MODELHUB_PROFILE": "staging"}}
    loaded = load_file("models.yaml", **options)
    assert (loaded.models["a"].options.reply, loaded.profile) == ("staged", "staging")
    assert not loaded.config.budgets
    assert load_file("models.yaml", environ={"MODELHUB_PROFILE": ""}).profile is None
    assert load_file("models.yaml", profile="eu", **options if by == "variable" else {}).chains["main"].models == ["b"]


def test_an_origin_has_the_file_and_the_line(folder):
    """Of the value that won, whatever it was merged from."""
    origins = {
        origin.path: (origin.file, origin.line, origin.source)
        for origin in load_file("models.yaml", profile="staging").list_origins("a")
    }
    assert origins["timeout.total"] == ("models.yaml", 7, "entry")
    assert origins["timeout.idle"] == ("base.yaml", 8, "entry")
    assert origins["retry.max_attempts"] == ("models.yaml", 4, "defaults")
    assert origins["retry.initial_wait"] == ("base.yaml", 3, "defaults")
    assert origins["reply"] == ("models.yaml", 14, "entry")


def test_problems_have_their_own_file(folder):
    """All of them at once, with an excerpt of the file in which they are, and the files counted."""
    (folder / "base.yaml").write_text(
        BASE.replace("idle: 5s", "idle: soon").replace("models: [a, b]", "models: [a, z]")
    )
    (folder / "models.yaml").write_text(
        MAIN.replace("total: 7s", "totl: 7s").replace("main: {models: [c, a]}", "other: {models: [y]}")
    )
    with pytest.raises(ConfigError) as caught:
        load_file("models.yaml")
    text = str(caught.value)
    assert "base.yaml:8:32: `idle: soon` must be a duration" in text
    assert "    8 |     timeout: {total: 9s, idle: soon}\n" in text
    assert "models.yaml:7:15: unknown key `totl`" in text
    assert "base.yaml:11:22: " in text
    assert "models.yaml:10:20: " in text
    assert text.endswith("4 problems in models.yaml and base.yaml")


def test_what_a_profile_says_has_its_place_too(folder):
    """In the profile that applies; of the others only the names of the sections are checked."""
    (folder / "models.yaml").write_text(MAIN.replace("reply: staged", "replly: staged"))
    assert load_file("models.yaml")
    assert problems_of(profile="staging") == ["models.yaml:14:11: unknown key `replly` in model `a`"]
    (folder / "models.yaml").write_text(MAIN + "    modles: {}\n  bad: 1\n  worse: {include: [x.yaml]}\n")
    assert problems_of() == [
        "models.yaml:18:5: unknown key `modles` in profile `eu`",
        "models.yaml:19:3: profile `bad` must be a mapping with sections of a file",
        "models.yaml:20:11: `include` cannot be set in a profile",
    ]


def test_an_unknown_profile_names_those_that_exist(folder, tmp_path):
    """Also where it came from, and where there are none: a wrong name must not mean production."""
    with pytest.raises(
        ConfigError, match=r"models\.yaml:11:1: there is no profile `stagin` \(from \$MODELHUB_PROFILE\)"
    ) as caught:
        load_file("models.yaml", environ={"MODELHUB_PROFILE": "stagin"})
    assert "did you mean `staging`? (profiles: staging, eu)" in str(caught.value)
    assert load_file("base.yaml", environ={"MODELHUB_PROFILE": "staging"}).profile is None
    with pytest.raises(ConfigError, match="there is no profile `staging`") as caught:
        load_file("base.yaml", profile="staging")
    assert caught.value.problems[0].hint == "there are no profiles"


def test_files_that_include_each_other_are_refused(folder):
    """With the way around, at the include that closes it, also by another path to the same file."""
    (folder / "base.yaml").write_text("include: [./link.yaml]\n")
    (folder / "link.yaml").symlink_to("models.yaml")
    assert problems_of() == ["base.yaml:1:11: the file includes itself: models.yaml > base.yaml > link.yaml"]


def test_a_file_that_is_missing_or_no_yaml_says_so_where_it_is_included(folder):
    """A missing one at its place in the list; one that is broken, with its own place."""
    (folder / "models.yaml").write_text("version: 1\ninclude: [base.yaml, gone.yaml]\n")
    assert problems_of() == ["models.yaml:2:22: gone.yaml: the file cannot be read: no such file or directory"]
    (folder / "base.yaml").write_text("models: {a: [}\n")
    assert problems_of()[0].startswith("base.yaml:1:14: ")
    for include in ("3", "[{a: 1}]", "['']"):
        (folder / "models.yaml").write_text(f"version: 1\ninclude: {include}\nmodels: {{a: {{provider: scripted}}}}\n")
        assert "`include`" in problems_of()[0]


def test_references_to_files_are_relative_to_the_file_that_has_them(folder):
    """And what is read, or looked for, can be watched."""
    (folder / "more").mkdir()
    (folder / "more" / "base.yaml").write_text('models: {a: {provider: scripted, reply: "${file:reply.txt}"}}\n')
    (folder / "more" / "reply.txt").write_text("here\n")
    (folder / "models.yaml").write_text("version: 1\ninclude: [more/base.yaml]\n")
    files = set()
    assert load_file("models.yaml", files=files).models["a"].options.reply == "here"
    assert {str(file) for file in files} == {"models.yaml", "more/base.yaml", "more/reply.txt"}


def test_secrets_of_an_included_file_are_hidden(folder):
    """In excerpts, where the problem is beside them, in profiles too."""
    key = "sk-abcdefghij0123456789"
    (folder / "base.yaml").write_text(f"models:\n  x: {{provider: openai, api_key: {key}, modelname: 1}}\n")
    text = f"version: 1\ninclude: [base.yaml]\nprofiles:\n  p:\n    models:\n      x: {{api_key: {key}, nmae: 2}}\n"
    (folder / "models.yaml").write_text(text)
    for profile in (None, "p"):
        with pytest.raises(ConfigError) as caught:
            load_file("models.yaml", profile=profile)
        assert "unknown key" in str(caught.value)
        assert key not in str(caught.value)


def test_a_dict_may_include_files_too(folder):
    """Relative to the working directory."""
    config = {
        "version": 1,
        "include": "base.yaml",
        "models": {"a": {"reply": "dict"}},
        "profiles": {"p": {"models": {"b": {"reply": "p"}}}},
    }
    loaded = load_dict(config, profile="p")
    assert [loaded.models[name].options.reply for name in "ab"] == ["dict", "p"]
    assert config["include"] == "base.yaml"


async def test_a_hub_keeps_its_profile(folder):
    """When it is reloaded, and an included file has changed."""
    async with Hub.from_yaml(profile="staging") as hub:
        assert (await hub.get("a")("hi")).text == "staged"
        (folder / "base.yaml").write_text(BASE.replace("reply: b}", "reply: new}"))
        assert str(hub.reload()) == "model `b` changed (reply: b -> new)"
        assert (await hub.get("b")("hi")).text == "new"


def test_a_variable_of_an_included_file_gets_a_stand_in(folder):
    """When models are rerouted, as for a drill."""
    (folder / "base.yaml").write_text(BASE.replace("reply: base", 'reply: "${WHATEVER}"'))
    with FaultServer().running() as server:
        assert reroute_config(folder / "models.yaml", server)["models"]["a"]["reply"] == "1"


def test_commands_take_a_profile(folder):
    """And `explain` shows the file and the line of each value."""
    from typer.testing import CliRunner

    run = CliRunner().invoke(app, ["explain", "main", "--profile", "staging", "--json"])
    where = {item["path"]: (item["file"], item["line"]) for item in json.loads(run.stdout)["where"]}
    assert where["main.deadline"] == ("base.yaml", 11)
    assert where["a.timeout.total"] == ("models.yaml", 7)
    shown = CliRunner().invoke(app, ["explain", "main"]).stdout
    assert "main.deadline = 30s" in shown
    assert "base.yaml:11" in shown
    assert CliRunner().invoke(app, ["check", "--profile", "nothing"]).exit_code == 3
    assert "models.yaml, profile eu: 3 models" in CliRunner().invoke(app, ["check", "--profile", "eu"]).stdout


def test_explain_shows_where_the_values_come_from_that_a_profile_or_an_included_file_set(folder):
    """Also those that are in the first lines already, such as a model's name."""
    from typer.testing import CliRunner

    staged = MAIN.replace("a: {reply: staged}", "a: {model_name: small}\n      c: {model_name: large}")
    (folder / "models.yaml").write_text(staged.replace("budgets: {daily: null}", ""))
    shown = CliRunner().invoke(app, ["explain", "main", "--profile", "staging"]).stdout
    rows = [" ".join(row.removeprefix("where").split()) for row in shown.splitlines()]
    assert "a.model_name = small profile staging, models.yaml:14" in rows
    assert "c.model_name = large profile staging, models.yaml:15" in rows
    assert "a.provider = scripted base.yaml:6" in rows
    assert not any(row.startswith("c.provider") for row in rows)


def test_check_looks_at_every_profile(folder):
    """A mistake in one is found before it is used."""
    from typer.testing import CliRunner

    assert CliRunner().invoke(app, ["check"]).exit_code == 0
    (folder / "models.yaml").write_text(MAIN.replace("reply: staged", "replly: staged"))
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 3
    assert "models.yaml:14:11: profile `staging`: unknown key `replly` in model `a`" in result.stdout
