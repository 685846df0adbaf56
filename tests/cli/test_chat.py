"""`modelhub chat`: what it asks, what it prints, and where."""

from __future__ import annotations

import base64
import json
import re

import pytest

from modelhub.cli.exit import Exit
from modelhub.testing import reroute_config
from tests.tables import table


def test_the_answer_goes_to_standard_output_and_the_rest_to_standard_error(run):
    """Standard output has the answer and nothing else."""
    result = run("chat", "offline", "Why is the sky blue?")
    assert result.exit_code == Exit.OK
    assert result.stdout == "Blue light scatters.\n"
    assert re.fullmatch(
        r"  scripted via offline · 0\.\d s \(first token 0\.\d s\) · about 5 in, 3 out · about \$0\n", result.stderr
    )


def test_the_footer_tells_what_failed_before(run):
    """Every model that was passed over is named, with the reason."""
    result = run("chat", "primary", "hi")
    assert result.stdout == "Here it is.\n"
    first, *before = result.stderr.splitlines()
    assert first.startswith("  script-2 via flaky · 2 attempts · ")
    assert before == [
        "  before it: keyless not configured: set SCRIPT_NAME, skipped",
        "             limited rate limited (429, retry after 38 s), moved on after 0.0 s",
    ]


def test_the_footer_knows_cost_and_an_unusual_ending(run):
    """A price and an answer that was cut off are told."""
    result = run("chat", "thinker", "hi", "--no-stream")
    assert re.search(
        r"thinker · 0\.\d s · about 1 in, 5 out · about \$0\.000078 · cut off at the token lim", result.stderr
    )


@pytest.fixture(name="asked")
def _asked(config, hub_faults):
    """The messages of the first request; the file's only model is called at a local server."""
    models = {"gpt": {"provider": "openai", "model_name": "gpt-4.1-mini", "api_key": "any", "api": "chat"}}
    rerouted = reroute_config({"version": 1, "models": models}, hub_faults.server)
    config.write_text(json.dumps(rerouted), encoding="utf-8")
    return lambda: hub_faults.server.requests("gpt")[0].body


@pytest.mark.parametrize(
    ("prompt", "piped", "text"),
    [
        ("Why?", "", "Why?"),
        (None, "Why?\n", "Why?"),
        ("Explain this.", "\ufeffa = 1\n", "Explain this.\n\na = 1"),
    ],
)
def test_what_is_piped_in_is_asked(run, asked, prompt, piped, text):
    """Prompt and standard input make one message, after the system message."""
    run("chat", "gpt", *([prompt] if prompt else []), "--system", "Be short.", stdin=piped)
    assert asked()["messages"] == [{"role": "system", "content": "Be short."}, {"role": "user", "content": text}]


def test_parameters_pictures_and_a_schema_go_with_the_message(run, asked, tmp_path):
    """`-o`, `--image` and `--schema` are parts of the call."""
    (tmp_path / "dot.gif").write_bytes(base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"))
    (tmp_path / "bill.json").write_text('{"type": "object", "properties": {"total": {"type": "number"}}}')
    run("chat", "gpt", "hi", "-o", "temperature=0", "-o", "stop=END", "--image", "dot.gif", "--schema", "bill.json")
    body = asked()
    assert (body["temperature"], body["stop"]) == (0, "END")
    assert body["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/gif;base64,R0lG")
    assert "total" in str(body["response_format"])


def test_a_function_answers_the_model(run, tmp_path):
    """`--tool` offers a function of the working directory, runs it, and sends back what it returns."""
    (tmp_path / "weather_tool.py").write_text("def get_weather(city: str) -> str:\n    return f'rain in {city}'\n")
    (tmp_path / "models.yaml").write_text(
        "{version: 1, models: {a: {provider: scripted, steps: [{call: {name: get_weather, arguments: {city: Oslo}}}, "
        "{call: {name: get_weather, arguments: {town: Oslo}}}, {say: Take an umbrella.}]}}}"
    )
    result = run("chat", "a", "hi", "--tool", "weather_tool:get_weather")
    assert result.stdout == "Take an umbrella.\n"
    assert "get_weather returned rain in Oslo\n" in result.stderr
    assert "get_weather returned ValidationError: 2 validation errors" in result.stderr


@table(
    ("arguments", "stdin", "message"),
    [
        (["offline"], "", "there is no message: write it after the name, or pipe it in"),
        (["offline", " "], "", "there is no message"),
        (["offline"], b"\xff\xfe", "the piped input is not UTF-8 text"),
        (["offline", "hi", "--deadline", "soon"], "", "expected a duration such as 500ms, 5s, 2m"),
        (["offline", "hi", "--image", "none.png"], "", "none.png is not a file"),
        (["offline", "hi", "--tool", "json:nothing"], "", "module 'json' has no attribute 'nothing'"),
        (["offline", "hi", "--tool", "nothing"], "", "expected module:name"),
        ([], "", "Missing argument"),
        (["offline", "hi", "--colour"], "", "No such option"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(run, arguments, stdin, message):
    """Status 2, and what to do about it."""
    result = run("chat", *arguments, stdin=stdin)
    assert result.exit_code == Exit.USAGE
    assert message in result.stderr
    assert result.stdout == ""


def test_a_chain_that_failed_is_told_model_by_model(run):
    """The tree has class, status and time of each model, and when to come back."""
    result = run("chat", "failing", "hi")
    assert result.exit_code == Exit.FAILED
    assert result.stdout == ""
    rows = result.stderr.splitlines()
    assert re.fullmatch(r"AllModelsFailed: no model of chain `failing` answered \(2 tried, 0\.\d s\)", rows[0])
    assert rows[1] == "  keyless  NotConfigured  set SCRIPT_NAME"
    assert re.fullmatch(r"  limited  RateLimited    429, retry after 38 s +0\.\d s", rows[2])
    assert re.fullmatch(r"  down     ConnectFailed  3 attempts, 127\.0\.0\.1:11434 refused +0\.\d s", rows[3])
    assert re.fullmatch(r"  next: limited can be tried again at (\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", rows[4])


def test_chains_in_a_chain_are_told_as_a_tree(run):
    """An inner chain's models stand below it, each with the attempts of its own turn."""
    told = run("chat", "nested", "hi").stderr.splitlines()
    rows = [row for row in told if not row.startswith("--")]  # a model that comes back in a second is waited for
    assert rows[1] == "  failing    chain          none of its 3 models answered"
    assert rows[2] == "    keyless  NotConfigured  set SCRIPT_NAME"
    assert rows[4].startswith("    down     ConnectFailed  3 attempts")
    assert rows[5].startswith("  down       ConnectFailed  retry after")


def test_one_models_failure_is_told_in_its_own_words(run):
    """Without a chain there is no tree: the class, the model, the vendor's words, then the facts."""
    result = run("chat", "bad", "hi")
    assert result.exit_code == Exit.FAILED
    assert re.fullmatch(r"InvalidRequest: bad: max_tokens must be positive\n  400 · 0\.\d s\n", result.stderr)


def test_a_model_without_its_key_says_what_to_set(run):
    """A model that is not configured fails with what to do."""
    result = run("chat", "keyless", "hi")
    assert result.exit_code == Exit.FAILED
    assert result.stderr == "NotConfigured: keyless: set SCRIPT_NAME\n"


def test_a_deadline_ends_the_call(run):
    """`--deadline` takes durations as the file does."""
    result = run("chat", "slow", "hi", "--deadline", "300ms", "--stream")
    assert result.exit_code == Exit.FAILED
    assert result.stdout.startswith("one")
    assert result.stdout.endswith("\n")
    assert "DeadlineExceeded: the call's time is over after 0.3 s" in result.stderr


def test_a_restart_is_said_and_begins_on_a_new_line(run):
    """Text that a restart made void is followed by the whole new answer."""
    result = run("chat", "restart", "hi", "--stream")
    assert result.stdout == "one two\nHere it is.\n"
    assert "-- breaking broke off (the script broke the connection); flaky starts over --\n" in result.stderr
    assert "before it: breaking stream broke (the script broke the connection), moved on after" in result.stderr


def test_a_pipe_gets_no_text_that_a_restart_made_void(run):
    """Without a terminal the answer is printed when it is complete."""
    assert run("chat", "restart", "hi").stdout == "Here it is.\n"


def test_a_stream_that_cannot_be_mended_fails(run):
    """What had come by then is shown only where it was streamed."""
    result = run("chat", "breaking", "hi")
    assert result.exit_code == Exit.FAILED
    assert result.stdout == ""
    assert "-- breaking broke off (the script broke the connection); breaking starts over --" in result.stderr
    assert "StreamBroken: breaking: the stream broke" in result.stderr


def test_thinking_is_shown_only_when_asked_for(run):
    """Thinking goes to standard error, before the answer."""
    assert "hm" not in run("chat", "thinker", "hi").output
    result = run("chat", "thinker", "hi", "--thinking", "--stream")
    assert result.stdout == "So it is.\n"
    assert result.output.startswith("hm hm\nSo it is.\n")


def test_a_call_of_a_tool_is_told(run):
    """An answer without text says which tool it asks for."""
    result = run("chat", "tool", "hi")
    assert result.stdout == ""
    assert result.stderr.startswith('  calls get_weather {"city": "Paris"}\n')


def test_long_waits_are_told_while_they_last(run, config):
    """Whoever waits for a second or more is told why."""
    step = "{fail: Overloaded, status: 529, retry_after: 1s}"
    config.write_text(f"version: 1\nmodels:\n  a: {{provider: scripted, steps: [{step}, {{say: x}}]}}\n")
    assert "-- a: Overloaded 529; attempt 2 in 1 s --\n" in run("chat", "a", "hi").stderr


def test_json_is_the_reply(run):
    """`--json` prints the reply as one object, and nothing else anywhere."""
    result = run("chat", "primary", "hi", "--json")
    reply = json.loads(result.stdout)
    assert (reply["model"], reply["requested"], reply["finish_reason"]) == ("flaky", "primary", "stop")
    assert reply["content"] == [{"type": "text", "text": "Here it is."}]
    assert [attempt["outcome"] for attempt in reply["attempts"]] == ["NotConfigured", "RateLimited", "Overloaded", "ok"]
    assert result.stderr == ""


def test_json_of_a_failure_has_the_tree_and_the_attempts(run):
    """A failed call is an object too: kind, message, every model's error, every attempt."""
    result = run("chat", "nested", "hi", "--json")
    assert result.exit_code == Exit.FAILED
    error = json.loads(result.stdout)["error"]
    assert error["kind"] == "AllModelsFailed"
    assert [inner["kind"] for inner in error["errors"]] == ["AllModelsFailed", "ConnectFailed"]
    inner = error["errors"][0]["errors"]
    assert [(one["model"], one["status"]) for one in inner] == [("keyless", None), ("limited", 429), ("down", None)]
    assert [one["model"] for one in error["attempts"]] == ["keyless", "limited", *["down"] * 6]
    assert result.stderr == ""


@pytest.mark.parametrize(("name", "kind"), [("primry", "UnknownModel"), ("keyless", "NotConfigured")])
def test_json_of_every_failure_has_kind_and_message(run, name, kind):
    """Who reads JSON never has to read standard error."""
    result = run("chat", name, "hi", "--json")
    error = json.loads(result.stdout)["error"]
    assert error["kind"] == kind
    assert error["message"]
    assert result.stderr == ""
