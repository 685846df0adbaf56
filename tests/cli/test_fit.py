"""`modelhub fit`: what each model of a chain makes of a call, before anything is deployed."""

import json
import textwrap

import pytest

from modelhub import Hub
from modelhub.cli.exit import Exit
from modelhub.cli.fit.shape import SAMPLE_TOOL
from tests.tables import table

FILE = """
version: 1
models:
  gpt: {provider: openai, model_name: gpt-5-mini, api: chat, api_key: "${NO_SUCH_KEY}"}
  claude: {provider: anthropic, model_name: claude-sonnet-4-5, api_key: "${NO_SUCH_KEY}"}
  gemini: {provider: gemini, model_name: gemini-2.5-flash, api_key: "${NO_SUCH_KEY}"}
  texts:
    provider: openai
    model_name: m
    base_url: "http://127.0.0.1:1/v1"
    quirks: {text_only: true, structured: prompt}
chains:
  main: {models: [gpt, claude, gemini], ask: {top_p: 0.5}}
  all: {models: [main, texts]}
"""


@pytest.fixture(name="fit")
def _fit(run, tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(FILE, encoding="utf-8")

    def fit(*arguments):
        return run("fit", *arguments, "--file", str(path))

    return fit


def cells(result):
    """The verdicts and details of each model, by what was asked."""
    (call,) = json.loads(result.stdout)
    return {
        model["model"]: {key: (fit["verdict"], fit["detail"]) for key, fit in model["fits"].items()}
        for model in call["models"]
    }


def test_each_parameter_is_as_it_is_spelled_dropped_or_rounded(fit):
    """Without a key and without asking a vendor."""
    found = cells(fit("main", "--max-tokens", "500", "--effort", "minimal", "--ask", "seed=1", "--json"))
    assert found["gpt"]["seed"] == ("as it is", None)
    assert found["gemini"]["max_tokens"] == ("spelled", "max_output_tokens")
    assert found["claude"]["seed"] == ("dropped", "Anthropic has no such parameter")
    assert found["claude"]["max_tokens"] == ("as it is", None)


@pytest.mark.parametrize(
    ("api", "fits"),
    [
        ("chat", [("spelled", "max_completion_tokens"), ("as it is", None), ("as it is", None)]),
        ("auto", [("spelled", "max_completion_tokens"), ("as it is", None), ("as it is", None)]),
        (
            "responses",
            [
                ("spelled", "max_output_tokens"),
                ("spelled", "reasoning.effort"),
                ("dropped", "OpenAI's Responses API has no such parameter"),
            ],
        ),
    ],
)
def test_a_parameter_is_spelled_as_the_api_does_that_the_call_goes_to(run, tmp_path, api, fits):
    """OpenAI has two; `seed` is for chat completions only."""
    path = tmp_path / "own.yaml"
    path.write_text(
        f"version: 1\nmodels:\n  gpt: {{provider: openai, model_name: gpt-5-mini, api: {api}, api_key: k}}\n",
        encoding="utf-8",
    )
    asked = ("--max-tokens", "500", "--effort", "low")
    seeded = cells(run("fit", "gpt", *asked, "--ask", "seed=1", "--json", "--file", str(path)))["gpt"]
    assert [seeded[name] for name in ("max_tokens", "reasoning_effort", "seed")] == fits
    plain = cells(run("fit", "gpt", *asked, "--json", "--file", str(path)))["gpt"]
    names = ["max_completion_tokens" if api == "chat" else "max_output_tokens"]
    assert plain["max_tokens"] == ("spelled", *names)


def test_what_the_chain_asks_for_is_part_of_the_call(fit):
    """It goes to every model as well."""
    assert {model: "top_p" in fits for model, fits in cells(fit("all", "--json")).items()} == {
        "gpt": True,
        "claude": True,
        "gemini": True,
        "texts": False,
    }


def test_only_what_the_call_asks_for_is_shown(run, tmp_path):
    """What the file asks for in the model's own entry is another thing, dropped or not."""
    path = tmp_path / "own.yaml"
    path.write_text(
        "version: 1\nmodels:\n  gpt: {provider: openai, model_name: gpt-5-mini, api_key: k, ask: {temperature: 0.5}}\n",
        encoding="utf-8",
    )
    found = cells(run("fit", "gpt", "--max-tokens", "500", "--ask", "temperature=1", "--json", "--file", str(path)))
    assert {key: verdict for key, (verdict, _) in found["gpt"].items()}["temperature"] == "dropped"
    assert {key: verdict for key, (verdict, _) in found["gpt"].items()}["max_tokens"] != "dropped"


def test_a_parameter_is_not_refused_for_what_stands_beside_it(run, tmp_path):
    """A model that cannot be made to call a tool still takes the parameters of the call."""
    path, calls = tmp_path / "own.yaml", tmp_path / "calls.yaml"
    path.write_text(
        "version: 1\nmodels:\n  local: {provider: openai, model_name: m, base_url: 'http://127.0.0.1:1/v1',"
        " quirks: {tool_choices: [auto]}}\n",
        encoding="utf-8",
    )
    calls.write_text("- {tools: true, tool_choice: required, ask: {seed: 1}}\n", encoding="utf-8")
    found = cells(run("fit", "local", "--calls", str(calls), "--json", "--file", str(path)))["local"]
    assert (found["tools"][0], found["seed"][0]) == ("refused", "as it is")


def test_parameters_are_tried_together(run, tmp_path):
    """A model that takes a temperature only without reasoning is shown so."""
    path = tmp_path / "own.yaml"
    path.write_text(
        "version: 1\nmodels:\n  gpt: {provider: openai, model_name: gpt-5.1, api: chat, api_key: k}\n", encoding="utf-8"
    )

    def verdict(effort):
        arguments = ("--ask", "temperature=1", "--effort", effort, "--json", "--file", str(path))
        return cells(run("fit", "gpt", *arguments))["gpt"]["temperature"][0]

    assert (verdict("none"), verdict("high")) == ("as it is", "dropped")


def test_a_model_that_would_refuse_is_named_and_fails_the_command(fit):
    """An image never is dropped: it changes the answer."""
    result = fit("all", "--image", "--tools")
    assert result.exit_code == Exit.FAILED
    assert "texts: `image` is refused: this server cannot take image" in result.stdout
    assert "4 models: texts would refuse the call" in result.stdout
    assert fit("main", "--image", "--tools").exit_code == Exit.OK


def test_a_schema_says_how_it_is_asked_for(fit, tmp_path):
    """Natively, as a tool, or in words."""
    schema = tmp_path / "invoice.json"
    schema.write_text(json.dumps({"type": "object", "properties": {"total": {"type": "number"}}}), encoding="utf-8")
    found = cells(fit("all", "--schema", str(schema), "--json"))
    assert (found["gpt"]["schema"], found["texts"]["schema"]) == (("as it is", None), ("spelled", "in words"))


def test_a_class_of_the_application_is_a_schema(fit, tmp_path, monkeypatch):
    """It is imported from the working directory."""
    source = "from pydantic import BaseModel\n\n\nclass Invoice(BaseModel):\n    total: float\n"
    (tmp_path / "app_of_fit.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert cells(fit("main", "--schema", "app_of_fit:Invoice", "--json"))["gpt"]["schema"] == ("as it is", None)


def test_a_file_of_calls_is_checked_call_by_call(fit, tmp_path):
    """Each has a name, and its own table."""
    calls = tmp_path / "calls.yaml"
    calls.write_text(
        textwrap.dedent("""
        - {name: report, ask: {max_tokens: 500}}
        - {name: look, tools: true, tool_choice: required, image: true}
        """),
        encoding="utf-8",
    )
    result = fit("all", "--calls", str(calls))
    assert result.exit_code == Exit.FAILED
    assert [row for row in result.stdout.splitlines() if row in ("report", "look")] == ["report", "look"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a: 1", "expected a list of calls"),
        (b"- {nme: x}", "call 1: unknown key `nme`"),
        (b"- {ask: 5}", "call 1: `ask` must be a mapping"),
        (b"- {schema: 5}", "call 1: `schema` must be true or a JSON Schema"),
        (b"[", "a list or mapping is still open"),
        (b"- {name: \xff}", "calls.yaml:1: this line is not UTF-8 text"),
    ],
)
def test_a_wrong_file_of_calls_is_said(fit, tmp_path, text, says):
    """With its place."""
    calls = tmp_path / "calls.yaml"
    calls.write_bytes(text)
    result = fit("main", "--calls", str(calls))
    assert (result.exit_code, says in result.stderr) == (Exit.CONFIG, True)


def test_check_fails_if_a_model_of_a_chain_would_refuse_a_call(fit, run, tmp_path):
    """So that a file and the app's calls are checked together before they are deployed."""
    calls = tmp_path / "calls.yaml"
    calls.write_text("- {name: look, image: true}\n", encoding="utf-8")
    result = run("check", "--calls", str(calls), "--file", str(tmp_path / "models.yaml"))
    assert result.exit_code == Exit.FAILED
    assert "refused: look: `texts` of `all`: image: this server cannot take image" in result.stderr
    calls.write_text("- {name: report, ask: {max_tokens: 500}}\n", encoding="utf-8")
    assert run("check", "--calls", str(calls), "--file", str(tmp_path / "models.yaml")).exit_code == Exit.OK


def test_a_drill_plays_its_faults_with_a_call_of_a_shape(fit, run, tmp_path):
    """A chain that dies on falling back is seen: the next model is sent the same parameters and tools."""
    drilled = run(
        *("drill", "main", "--only", "overloaded", "--tools", "--ask", "max_tokens=500", "--ask", "seed=1", "--json"),
        *("--file", str(tmp_path / "models.yaml")),
    )
    report = json.loads(drilled.stdout)
    assert report["counts"] == {"ok": 1, "slow": 0, "lost": 0, "wrong": 0}
    misspelt = ("drill", "main", "--only", "overloaded", "--ask", "deadlne=5s", "--file", str(tmp_path / "models.yaml"))
    assert run(*misspelt).exit_code == Exit.FAILED


@table(
    ("arguments", "says"),
    [
        (["--ask", "seed"], "expected NAME=VALUE"),
        (["--schema", "nothing"], "expected module:Class"),
        (["--schema", "no_such_module:X"], "No module named"),
        (["--calls", "calls.yaml", "--tools"], "leave the other options out"),
        (["--from-ledger", "--tools"], "leave the other options out"),
        (["--from-ledger", "--since", "soon", "--ledger", "usage.db"], "use a span such as 7d"),
    ],
)
def test_a_wrong_option_is_said(fit, arguments, says):
    """Before anything is tried."""
    result = fit("main", *arguments)
    assert (result.exit_code, says in result.stderr) == (Exit.USAGE, True)


# -- the shapes that the ledger has seen -----------------------------------------------------------------------------


@pytest.fixture(name="recorded")
def _recorded(tmp_path):
    """A ledger with calls to `all`, which was a chain of scripted models when they were made."""
    path = tmp_path / "usage.db"
    config = {
        "version": 1,
        "models": {"m": {"provider": "scripted", "reply": "fine"}},
        "chains": {"all": {"models": ["m"]}},
        "usage": {"ledger": str(path)},
    }
    image = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="}}
    with Hub.from_dict(config) as hub:
        for max_tokens in (100, 700, 300):
            hub.get("all").sync("private", tools=[SAMPLE_TOOL], tool_choice="look_up", max_tokens=max_tokens)
        hub.get("all").sync([{"role": "user", "content": ["private", image]}])
        hub.get("m").sync("private", seed=3)
    return path


def test_the_calls_that_the_ledger_has_seen_are_held_against_the_file(fit, recorded):
    """The most frequent first; calls that differ only in numbers are one shape, with the largest of them."""
    result = fit("all", "--from-ledger", "--ledger", str(recorded), "--json")
    assert result.exit_code == Exit.FAILED
    calls = json.loads(result.stdout)
    names = [call["call"].partition(", the last on")[0] for call in calls]
    assert names == ["3 calls with tools, max_tokens 700", "1 call with image"]
    refusing = [[model["model"] for model in call["models"] if model["refuses"]] for call in calls]
    assert refusing == [[], ["texts"]]
    assert list(calls[0]["models"][0]["fits"]) == ["tools", "top_p", "max_tokens"]
    assert "private" not in result.stdout


def test_without_a_name_every_chain_is_shown_with_the_calls_to_it(fit, recorded):
    """A chain that nobody called is named."""
    result = fit("--from-ledger", "--ledger", str(recorded))
    assert "no calls to `main` since" in result.stderr
    assert [line.split(",")[0] for line in result.stdout.splitlines() if " calls " in line] == ["3 calls with tools"]
    assert fit("--from-ledger", "--ledger", str(recorded), "--since", "2999-01-01").stdout == ""


def test_without_a_name_every_chain_is_shown(fit):
    """Each under its name."""
    result = fit("--image")
    assert result.exit_code == Exit.FAILED
    assert [line for line in result.stdout.splitlines() if line in ("main", "all")] == ["main", "all"]


def test_a_ledger_that_is_not_there_or_is_none_is_said(fit, tmp_path):
    """In words, without a traceback."""
    missing = fit("all", "--from-ledger", "--ledger", str(tmp_path / "no.db"))
    assert (missing.exit_code, "no calls yet: there is no" in missing.stderr) == (Exit.OK, True)
    none = fit("all", "--from-ledger", "--ledger", str(tmp_path / "models.yaml"))
    assert (none.exit_code, "cannot be read" in none.stderr) == (Exit.FAILED, True)
    unset = fit("all", "--from-ledger")
    assert (unset.exit_code, "has no ledger" in unset.stderr) == (Exit.CONFIG, True)


@pytest.mark.parametrize(
    ("call", "asked", "refusing"),
    [
        ("native_tools: [web_search], tool_choice: web_search", "web_search", {"claude", "gemini"}),
        ("native_tools: [web_search], tools: true, tool_choice: look_up", "web_search", {"claude", "gemini"}),
        ("audio: true", "audio", {"claude"}),
        ("document: true", "document", set()),
        ("video: true", "video", {"gpt", "claude"}),
    ],
)
def test_media_and_the_vendors_own_tools_are_part_of_a_calls_shape(run, tmp_path, call, asked, refusing):
    """A model that cannot take them is not asked."""
    path, calls = tmp_path / "models.yaml", tmp_path / "calls.yaml"
    path.write_text(FILE.replace("api: chat", "api: auto"), encoding="utf-8")
    calls.write_text(f"- {{{call}}}\n", encoding="utf-8")
    found = cells(run("fit", "main", "--calls", str(calls), "--json", "--file", str(path)))
    assert {model for model, fits in found.items() if fits[asked][0] == "refused"} == refusing


def test_an_unknown_name_is_said(fit):
    """With the names there are."""
    result = fit("mian")
    assert result.exit_code == Exit.CONFIG
    assert "no model or chain is called `mian`; did you mean `main`?" in result.stderr
