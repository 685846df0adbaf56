"""`modelhub check`, `list` and `schema`: what a file has, and what is wrong with it."""

from __future__ import annotations

import json

import pytest

from modelhub.cli.exit import Exit
from tests.tables import table

BROKEN = """\
version: 1
models:
  gpt:
    provider: scripted
    api_key: sk-very-secret-12345678
    retires: {max_attempts: 3}
chains:
  primary:
    models: [gtp]
"""


def test_check_lists_everything_with_its_state(run):
    """One line a model, with what is missing; one a chain, with its order."""
    result = run("check")
    assert result.exit_code == Exit.OK
    rows = result.stdout.splitlines()
    assert rows[0] == "models.yaml: 11 models, 4 chains, 1 limit"
    assert rows[1] == "  offline   scripted  -               ready"
    assert rows[2] == "  keyless   scripted  ${SCRIPT_NAME}  not configured: set SCRIPT_NAME"
    assert rows[3] == "  limited   scripted  script-1        ready"
    assert rows[12] == "  primary   chain     keyless > limited > flaky > offline"


def test_check_strict_fails_while_something_is_missing(run, monkeypatch):
    """`--strict` leaves with 4, and with 0 once the variable is set."""
    result = run("check", "--strict")
    assert result.exit_code == Exit.NOT_CONFIGURED
    assert result.stderr == "\nnot ready: 1 model not configured (--strict)\n"
    monkeypatch.setenv("SCRIPT_NAME", "x")
    assert run("check", "--strict").exit_code == Exit.OK


def test_check_says_which_chain_nobody_answers_for(run, config):
    """A chain of which no model is configured is marked."""
    config.write_text(
        "version: 1\nmodels: {a: {provider: scripted, reply: '${X}'}}\nchains: {c: {models: [a]}, d: {models: [c]}}\n"
    )
    rows = run("check").stdout.splitlines()
    assert rows[2] == "  c  chain     a  not configured: none of its models is configured"
    assert rows[3] == "  d  chain     c  not configured: none of its models is configured"


def test_check_json(run, monkeypatch):
    """`--json` has the same as an object."""
    found = json.loads(run("check", "--json").stdout)
    assert (found["ok"], found["file"], found["limits"]) == (True, "models.yaml", ["tier"])
    assert found["models"][1]["missing"] == "set SCRIPT_NAME"
    assert found["chains"][0] == {
        "name": "primary",
        "kind": "chain",
        "models": ["keyless", "limited", "flaky", "offline"],
        "missing": None,
    }
    strict = run("check", "--json", "--strict")
    assert (strict.exit_code, json.loads(strict.stdout)["ok"], strict.stderr) == (Exit.NOT_CONFIGURED, False, "")


@table(
    ("model", "variable"),
    [
        ("provider: openai, api_key: sk-abcdefghijklmnop", "`api_key` has the key itself; write `${OPENAI_API_KEY}`"),
        ("provider: openai, compat: groq, api_key: gsk_abcdefghijklmnop", "write `${NAME}`"),
        ("provider: anthropic, keys: [{api_key: k}, {api_key: sk-abcdefghijklmnop}]", "`keys.1.api_key` has the key"),
        ("provider: openai, api_key: none", None),
        ('provider: openai, api_key: "${UNSET:-none}"', None),
        ('provider: openai, api_key: "${A_KEY}"', None),
        ('provider: openai, client_args: {default_headers: {Authorization: "Bearer ${A_KEY}"}}', None),
    ],
)
def test_check_warns_of_a_key_in_the_file(run, config, monkeypatch, model, variable):
    """What looks like a vendor's key belongs into a variable. The key is not shown, and it is no failure."""
    monkeypatch.setenv("A_KEY", "sk-abcdefghijklmnop")
    config.write_text(f"version: 1\nmodels:\n  m: {{model_name: x, {model}}}\n")
    result = run("check")
    assert result.exit_code == Exit.OK
    assert result.stderr.startswith("watch: models.yaml:3: ") is (variable is not None)
    assert (variable or "") in result.stderr
    assert "abcdef" not in result.stdout + result.stderr


@table(
    ("deadline", "advice"),
    [("40000", "is 11.1 h: a plain number is in seconds; write `40s` if milliseconds are meant, else `40000s`")]
    + [(text, None) for text in ("3600", "40000s", "2h", '"${UNSET:-40000}"')],
)
def test_check_warns_of_hours_without_a_unit(run, config, deadline, advice):
    """Whoever writes the unit means it."""
    config.write_text(
        "version: 1\nmodels: {m: {provider: scripted, reply: x}}\n"
        f"chains: {{c: {{models: [m], deadline: {deadline}}}}}\n"
    )
    assert run("check").stderr == (f"watch: models.yaml:3: `deadline: {deadline}` {advice}\n" if advice else "")


SILENT = """\
version: 1
models:
  gpt: {provider: openai, model_name: a, api_key: k, timeout: {first_token: 20s, total: 120s}}
  claude: {provider: anthropic, model_name: b, api_key: k}
  unset: {provider: anthropic, model_name: b, api_key: "${NOT_SET}"}
  keyed: {provider: openai, model_name: a, keys: [{api_key: k1}, {api_key: k2}]}
chains:
  main: {models: [gpt, claude], deadline: DEADLINE, stream_inside: INSIDE}
  keyless: {models: [unset, gpt], deadline: 10s}
  only_keys: {models: [keyed], deadline: 10s}
"""


@table(
    ("deadline", "inside", "warning"),
    [
        (
            "120s",
            "false",
            "(120 of 120 s), so that no other model is tried if it does not answer; lower its `timeout.total`",
        ),
        ("121s", "false", None),
        ("90s", "true", None),
        (
            "20s",
            "true",
            "(20 of 20 s), so that no other model is tried if it does not answer; lower its `timeout.first_token`",
        ),
    ],
)
def test_check_warns_of_a_deadline_that_one_silent_model_uses_up(run, config, deadline, inside, warning):
    """If another model is behind it, whether or not its key is set here. A warning is no failure."""
    config.write_text(SILENT.replace("DEADLINE", deadline).replace("INSIDE", inside))
    result, as_json = run("check"), run("check", "--json")
    warnings = (
        [f"chain `main`: gpt alone may use up the deadline {warning}, or raise the `deadline`"] if warning else []
    )
    warnings.append(
        "chain `keyless`: unset alone may use up the deadline (120 of 10 s), so that no other model is tried if it "
        "does not answer; lower its `timeout.total`, or raise the `deadline`"
    )
    assert (result.exit_code, as_json.exit_code) == (Exit.OK, Exit.OK)
    assert (json.loads(as_json.stdout)["ok"], json.loads(as_json.stdout)["warnings"]) == (True, warnings)
    assert result.stderr == "".join(f"watch: {text}\n" for text in warnings)


def test_check_of_a_broken_file_shows_every_problem(run, config):
    """Place, excerpt, caret, what was meant, and how many there are; never a secret."""
    config.write_text(BROKEN)
    result = run("check")
    assert result.exit_code == Exit.CONFIG
    assert "models.yaml:6:5: unknown key `retires` in model `gpt`\n" in result.stdout
    assert "    6 |     retires: {max_attempts: 3}\n      |     ^^^^^^^ did you mean `retry`?\n\n" in result.stdout
    assert "chain `primary` names an unknown model `gtp`" in result.stdout
    assert result.stdout.endswith("\n3 problems in models.yaml\n")
    assert "very-secret" not in result.output


def test_check_json_of_a_broken_file(run, config):
    """`--json` has each problem with its place."""
    config.write_text(BROKEN)
    result = run("check", "--json")
    assert result.exit_code == Exit.CONFIG
    found = json.loads(result.stdout)
    assert found["ok"] is False
    assert [(one["line"], one["hint"]) for one in found["problems"]][1] == (6, "did you mean `retry`?")
    assert "very-secret" not in result.output


@pytest.mark.parametrize("command", [("chat", "gpt", "hi"), ("list",), ("explain", "gpt")])
def test_other_commands_show_the_problems_too(run, config, command):
    """Whoever meets a broken file first is told what is wrong with it, on standard error."""
    config.write_text(BROKEN)
    result = run(*command)
    assert result.exit_code == Exit.CONFIG
    assert result.stdout == ""
    assert result.stderr.endswith("3 problems in models.yaml\n")
    as_json = run(*command, "--json")
    assert json.loads(as_json.stdout)["error"]["problems"][0]["file"] == "models.yaml"


@table("command", [("chat", "gpt", "hi"), ("list",), ("explain", "gpt"), ("check",)])
def test_a_file_that_is_not_there_is_a_configuration_error(run, config, monkeypatch, command):
    """Status 3, and how to name another file."""
    config.unlink(missing_ok=True)
    result = run(*command)
    assert result.exit_code == Exit.CONFIG
    assert "there is no models.yaml in" in result.output
    result = run(*command, "--file", "other.yaml")
    assert (result.exit_code, result.output) == (Exit.CONFIG, "Error: other.yaml is not a file\n")
    monkeypatch.setenv("MODELHUB_CONFIG", "third.yaml")
    assert run(*command).output == "Error: third.yaml (from $MODELHUB_CONFIG) is not a file\n"


@pytest.mark.parametrize("command", [("chat", "primry", "hi"), ("explain", "primry")])
def test_an_unknown_name_says_what_was_meant(run, command):
    """Status 3, and the names there are."""
    result = run(*command)
    assert result.exit_code == Exit.CONFIG
    assert result.stderr.startswith(
        "Error: no model or chain is called `primry`; did you mean `primary`? (there are: primary, failing,"
    )


def test_list_has_one_line_a_name(run):
    """Names come first, so that `cut` and `awk` find them."""
    rows = run("list").stdout.splitlines()
    assert rows[0] == "offline   scripted  -"
    assert rows[11] == "primary   chain     keyless > limited > flaky > offline"
    assert len(rows) == 15


def test_list_json(run):
    """`--json` has the keys that each kind has."""
    found = json.loads(run("list", "--json").stdout)
    assert found[0] == {"name": "offline", "kind": "model", "provider": "scripted", "model_name": None}
    assert found[-1] == {"name": "restart", "kind": "chain", "models": ["breaking", "flaky"]}


def test_another_file_can_be_named(run, config):
    """`--file` and $MODELHUB_CONFIG go before ./models.yaml."""
    other = config.parent / "deploy" / "other.yaml"
    other.parent.mkdir()
    other.write_text("version: 1\nmodels: {only: {provider: scripted}}\n")
    assert run("list", "-f", str(other)).stdout == "only  scripted  -\n"


def test_schema_is_printed_or_written(run, config):
    """Both ways give the same JSON Schema."""
    printed = run("schema")
    assert json.loads(printed.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    path = config.parent / "schemas" / "models.schema.json"
    result = run("schema", "--write", str(path))
    assert (result.exit_code, result.stdout, result.stderr) == (Exit.OK, "", f"wrote {path}\n")
    assert path.read_text(encoding="utf-8") == printed.stdout


def test_schema_that_cannot_be_written_is_no_traceback(run, config):
    """A path that cannot be written is told by name."""
    result = run("schema", "--write", str(config / "x.json"))
    assert result.exit_code == Exit.FAILED
    assert result.stderr.startswith(f"Error: cannot write {config}")
