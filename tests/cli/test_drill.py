"""`modelhub drill`: one's own file against every fault, in virtual time and without a vendor."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from modelhub.cli.drill import show as _drill_show
from modelhub.cli.exit import Exit
from modelhub.middleware.chain.layer import Chain
from modelhub.testing import FAULTS, CannedResponse, Drill, Fault
from modelhub.testing import server as server_module
from modelhub.testing.faults import status
from modelhub.testing.wires import WIRES
from tests.tables import table

ROOT = Path(__file__).parents[2]
LONG = bool(os.environ.get("MODELHUB_LONG"))
TWO = """\
version: 1
defaults:
  timeout: {first_token: 10s, idle: 10s, total: 14s}
models:
  gpt: {provider: openai, model_name: gpt-5-mini, api_key: "${OPENAI_API_KEY}"}
  claude: {provider: anthropic, model_name: claude-sonnet-5, api_key: "${ANTHROPIC_API_KEY}"}
  patient: {provider: openai, model_name: x, timeout: {first_token: 40s, idle: 20s, total: 90s}}
  endless: {provider: openai, model_name: x, timeout: {total: 2h}}
  once: {provider: openai, model_name: x, retry: {max_attempts: 1}}
  waits: {provider: openai, model_name: x, limit: tier}
  large: {provider: openai, model_name: x, context_window: 400_000}
  small: {provider: anthropic, model_name: x, context_window: 1000}
  offline: {provider: scripted, reply: "Nobody is there."}
limits:
  tier: {requests_per_minute: 1}
chains:
  primary: {models: [gpt, claude, offline]}
  pair: {models: [gpt, claude]}
  streaming: {models: [gpt, claude], stream: true}
  patient-first: {models: [patient, claude]}
  short: {models: [patient, claude], deadline: 25s}
  nested: {models: [inner, offline]}
  inner: {models: [gpt, claude], on_broken_stream: raise, no_fallback_on: [RateLimited]}
  reroutes: {models: [gpt, claude], fallback_on: [ContentBlocked]}
  limited: {models: [waits, claude]}
  windows: {models: [large, small]}
  scripts: {models: [offline]}
"""


@pytest.fixture
def drill(run, config):
    """Drill the file above, or what *file* says."""

    def invoke(*arguments, file=TWO):
        config.write_text(file, encoding="utf-8")
        return run("drill", *arguments)

    return invoke


@pytest.fixture
def drilled(drill):
    """The same, as JSON: every row by its fault and how many it was played on."""

    def invoke(*arguments, **options):
        result = drill(*arguments, "--json", **options)
        report = json.loads(result.stdout)
        rows = {(row["fault"], len(row["on"])): row for row in report["faults"]}
        assert len(rows) == len(report["faults"])
        assert result.exit_code == (Exit.OK if report["ok"] else Exit.FAILED)
        return report, rows

    return invoke


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_a_short_table(drill):
    """Who answered, after how many attempts, how late, and whether that was well."""
    result = drill("primary", *[f"--only={name}" for name in ("rate_limit_once", "cut", "content_filter", "all_down")])
    assert result.exit_code == Exit.OK
    assert result.stderr == ""
    assert result.stdout == (
        "fault on gpt               caller got   by      attempts        took   verdict\n"
        "429, Retry-After 2 s       answer       gpt     gpt 2           2.0 s  ok\n"
        "stream cut after 40 words  answer       claude  gpt 1 claude 1  0.0 s  ok (restarted once)\n"
        "content filter             clean error  -       gpt 1           0.0 s  ok\n"
        "\n"
        "fault on several                caller got     by       attempts                  took   verdict\n"
        "503 for ever on gpt and claude  offline reply  offline  gpt 3 claude 3 offline 1  1.6 s  ok\n"
        "\n"
        "4 faults: 4 survived, 0 slow, 0 lost\n"
    )


def test_without_options_the_whole_list_and_then_the_outages(drilled):
    """Every fault on the first model, and what takes more than one down on those behind it too."""
    report, rows = drilled("primary")
    assert [key for key, depth in rows if depth == 1] == [key for key in FAULTS if key != "all_down"]
    assert [key for key, depth in rows if depth == 2] == ["overloaded", "silence"]
    assert rows["overloaded", 2]["by"] == rows["silence", 2]["by"] == "offline"
    assert report["counts"] == {"ok": 33, "slow": 0, "lost": 0, "wrong": 0}
    assert report["vendors"] == ["gpt", "claude"]
    assert report["scripted"] == ["offline"]


def test_when_all_are_down_a_clean_error_is_all_one_can_have(drill):
    """Nobody is behind the last: that is said, and is no loss."""
    result = drill("pair", "--only", "overloaded", "--deep")
    assert "503 for ever on gpt and claude  clean error  -   gpt 3 claude 3  1.6 s" in result.stdout
    assert result.stdout.count("ok (there is no other model)") == 1
    assert result.exit_code == Exit.OK


def test_deep_plays_every_fault_at_every_depth(drilled):
    """`--deep` is the whole list on the first, on the first two, and so on."""
    _, rows = drilled("pair", "--deep", "--only", "auth", "--only", "stall")
    assert list(rows) == [("stall", 1), ("auth", 1), ("stall", 2), ("auth", 2)]


def test_of_many_models_only_the_sum_of_attempts_is_shown(drill):
    """No terminal is wide enough for the shipped chain's seven."""
    result = drill("primary", "--only", "all_down", file=(ROOT / "models.yaml").read_text())
    assert "503 for ever on all 6  offline reply  offline  15 at 7 models" in result.stdout


def test_streams_are_asked_for_as_the_chain_does_and_for_faults_of_streams(drilled):
    """Unless the command line says otherwise."""

    def streamed(*arguments):
        _, rows = drilled(*arguments, "--only=cut", "--only=overloaded", "--only=no_done")
        return {key: row["stream"] for (key, depth), row in rows.items() if depth == 1}

    assert streamed("pair") == {"overloaded": False, "cut": True, "no_done": True}
    assert (
        streamed("streaming") == streamed("pair", "--stream") == dict.fromkeys(("overloaded", "cut", "no_done"), True)
    )
    # A plain answer has no [DONE] to lack.
    assert streamed("pair", "--no-stream") == {"overloaded": False, "cut": False}


def test_a_model_alone(drilled):
    """A model is drilled as a chain of one."""
    report, rows = drilled("gpt", "--only=server_error", "--only=server_error_once", "--only=no_done")
    assert {key: row["got"] for (key, _), row in rows.items()} == {
        "server_error": "error",
        "server_error_once": "answer",
        "no_done": "answer",
    }
    assert rows["server_error", 1]["error"]["kind"] == "ServerError"
    assert report["counts"]["ok"] == 3


def test_the_list(run):
    """`--list` has every fault by the name that `--only` takes."""
    rows = run("drill", "--list").stdout.splitlines()
    assert [row.split()[0] for row in rows] == list(FAULTS)
    assert rows[0] == "rate_limit_once    429, Retry-After 2 s"
    listed = json.loads(run("drill", "--list", "--json").stdout)
    assert listed[0] == {"fault": "rate_limit_once", "title": FAULTS["rate_limit_once"].title} | {
        "expects": "answer",
        "alone": "answer",
    }


@table("name", ["auth", "key refused", "Key refused"])
def test_a_fault_is_chosen_by_its_name_or_its_title(drilled, name):
    """The table shows the titles, so they are taken too."""
    assert list(drilled("pair", "--only", name)[1]) == [("auth", 1)]


@table(
    ("name", "advice"),
    [("key refusd", "did you mean `auth`? `modelhub drill --list` lists all"), ("x", "; `modelhub drill --list`")],
)
def test_an_unknown_fault(run, name, advice):
    """What was probably meant is suggested by its name, and where the names are listed."""
    assert advice in run("drill", "pair", "--only", name).stderr


# -- verdicts ----------------------------------------------------------------------------------------------------------

CASES = [
    ("pair", "silence", "ok", None),
    ("patient-first", "silence", "slow", "total is 90 s (first_token needs stream_inside)"),
    ("patient-first", "slow_first_token", "slow", "first_token is 40 s"),
    ("patient-first", "stall", "slow", "idle is 20 s"),
    ("patient-first", "slow", "slow", "total is 90 s, and slow is not set"),
    ("limited", "overloaded", "slow", "limit `tier` makes it wait"),
    ("short", "silence", "lost", "deadline is 25 s, total is 90 s (first_token needs stream_inside)"),
    ("short", "slow_first_token", "lost", "deadline is 25 s, first_token is 40 s"),
    ("endless", "silence", "lost", "no end after 30 min: total is 2 h (first_token needs stream_inside)"),
    ("once", "reset_once", "lost", "retry.max_attempts is 1, and there is no other model"),
    ("once", "reset", "ok", "there is no other model"),
    ("inner", "rate_limit", "lost", "no_fallback_on has RateLimited"),
    ("inner", "cut", "lost", "on_broken_stream is raise"),
    ("nested", "cut", "ok", "restarted once"),
    ("reroutes", "content_filter", "ok", "fallback_on has ContentBlocked"),
    ("windows", "context_length", "ok", "no later model is known to have a larger context window"),
    ("gpt", "rate_limit_long", "ok", "there is no other model"),
]


@table(("name", "fault", "verdict", "why"), CASES)
def test_a_verdict_names_the_setting_behind_it(drilled, name, fault, verdict, why, monkeypatch):
    """Late or lost is no fate: a line of the file has made it so."""
    monkeypatch.setitem(FAULTS, "reset", Drill("connection reset", FAULTS["reset_once"].script))
    report, rows = drilled(name, "--only", fault)
    row = rows[fault, 1]
    assert (row["verdict"], row["why"]) == (verdict, why)
    assert report["counts"][verdict] == 1


class Half(Fault):
    """Half an answer that says that it is whole."""

    async def respond(self, exchange):
        exchange.answer = CannedResponse("Half of it")
        await super().respond(exchange)


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_half_an_answer_that_passes_for_a_whole_one_is_wrong(drill, monkeypatch, stream):
    """The worst there is: nobody would notice."""
    monkeypatch.setitem(FAULTS, "half", Drill("half an answer", (Half(),)))
    result = drill("pair", "--only", "half", stream)
    assert "truncated!  gpt  gpt 1     0.0 s  wrong: a truncated answer was returned as complete" in result.stdout
    assert result.stdout.endswith("1 fault: 0 survived, 0 slow, 0 lost, 1 wrong\n")
    assert result.exit_code == Exit.FAILED


def test_a_refusal_that_another_model_was_asked_about_is_wrong(drill, monkeypatch):
    """What is refused for good must not be carried to the next vendor unless the file says so."""
    monkeypatch.setitem(FAULTS, "refusal", Drill("a refusal", (status(503),), expects="error"))
    result = drill("pair", "--only", "refusal")
    assert "wrong: a final refusal was sent to another model" in result.stdout
    assert result.exit_code == Exit.FAILED


def test_an_error_that_is_no_call_error_is_wrong(drill, monkeypatch):
    """Whatever comes out must be what the caller can catch."""

    def broken(*_):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Chain, "send", broken)
    result = drill("pair", "--only", "cut")
    assert (
        "crash       -   -         0.0 s  wrong: ZeroDivisionError was raised, which is not a CallError"
        in result.stdout
    )
    assert result.exit_code == Exit.FAILED


# -- the exit status ---------------------------------------------------------------------------------------------------


@table(
    ("arguments", "expected"),
    [
        (["pair", "--only", "silence"], Exit.OK),
        (["patient-first", "--only", "silence"], Exit.OK),
        (["patient-first", "--only", "silence", "--strict"], Exit.FAILED),
        (["patient-first", "--only", "silence", "--strict", "--slow", "2m"], Exit.OK),
        (["short", "--only", "silence"], Exit.FAILED),
        (["nobody"], Exit.CONFIG),
        (["scripts"], Exit.CONFIG),
        (["pair", "--file", "nowhere.yaml"], Exit.CONFIG),
        ([], Exit.USAGE),
        (["pair", "--list"], Exit.USAGE),
        (["pair", "--only", "sylence"], Exit.USAGE),
        (["pair", "--slow", "soon"], Exit.USAGE),
    ],
)
def test_the_exit_status_is_what_a_pipeline_needs(drill, arguments, expected):
    """0 if all was survived, 1 if not, 2 and 3 if nothing could be tried."""
    assert drill(*arguments).exit_code == expected


def test_what_is_wrong_is_said(drill):
    """A name, a fault or a file that is not there."""
    assert "no fault is called `sylence`; did you mean `silence`?" in drill("pair", "--only", "sylence").stderr
    assert "no model or chain is called `piar`; did you mean `pair`?" in drill("piar").stderr
    assert "there is nothing to drill: `scripts` calls no vendor" in drill("scripts").stderr
    broken = drill("pair", "--json", file=TWO.replace("provider: openai", "provider: opnai", 1))
    assert broken.exit_code == Exit.CONFIG
    assert json.loads(broken.stdout)["error"]["problems"][0]["hint"].startswith("did you mean `openai`?")


def test_a_model_without_its_sdk_takes_no_part(drill, monkeypatch):
    """It is named, and what to do; the others are drilled."""
    monkeypatch.setattr("modelhub.providers.http_provider.is_installed", lambda name: name != "anthropic")
    result = drill("primary", "--only", "overloaded", "--only", "all_down")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("claude left out: ")
    assert "pip install 'modelhub-chains[anthropic]'" in lines[0]
    assert "503 for ever           offline reply  offline  gpt 3 offline 1" in result.stdout
    alone = drill("claude")
    assert alone.exit_code == Exit.CONFIG
    assert "`claude` calls no vendor (claude: " in alone.stderr


# -- nobody is asked, nothing is spent ---------------------------------------------------------------------------------

REAL = {
    "OPENAI_API_KEY": "sk-real-openai",
    "ANTHROPIC_API_KEY": "sk-real-anthropic",
    "ANTHROPIC_AUTH_TOKEN": "real-token",
    "ANTHROPIC_CUSTOM_HEADERS": "x-more: real-header",
    "OPENAI_ORG_ID": "real-organization",
    "OPENAI_BASE_URL": "https://real.example/v1",
    "GEMINI_API_KEY": "real-gemini",
    "DASHSCOPE_API_KEY": "sk-real-dashscope",
    "OLLAMA_API_KEY": "real-ollama",
    "OLLAMA_HOST": "http://real.example:11434",
    "HTTP_PROXY": "http://real.example:3128",
    "https_proxy": "http://real.example:3128",
    "MODELS_REGION": "eu",
}
EACH = """\
version: 1
defaults: {timeout: {first_token: 10s, idle: 10s, total: 14s}}
models:
  openai:
    provider: openai
    model_name: x
    api_key: ${OPENAI_API_KEY}
    client_args: {default_headers: {x-key: "${OPENAI_API_KEY}", x-region: "${MODELS_REGION}"}}
  openai_responses: {provider: openai, model_name: x, api: responses, api_key: "${OPENAI_API_KEY}"}
  anthropic: {provider: anthropic, model_name: x, api_key: "${ANTHROPIC_API_KEY}"}
  gemini: {provider: gemini, model_name: x, api_key: "${GEMINI_API_KEY}"}
  dashscope: {provider: dashscope, model_name: x, api_key: "${DASHSCOPE_API_KEY}"}
  ollama: {provider: ollama, model_name: x}
  offline: {provider: scripted, reply: "Nobody is there."}
chains:
  all: {models: [openai, openai_responses, anthropic, gemini, dashscope, ollama, offline]}
  after-openai: {models: [openai, offline]}
  after-openai_responses: {models: [openai_responses, offline]}
  after-anthropic: {models: [anthropic, offline]}
  after-gemini: {models: [gemini, offline]}
  after-dashscope: {models: [dashscope, offline]}
  after-ollama: {models: [ollama, offline]}
"""


@pytest.fixture
def requests(monkeypatch):
    """Every request of a drill, as it came: the server itself keeps no secrets."""
    seen = []
    read_head, read_body = server_module.read_head, server_module.read_body

    async def watch_head(reader):
        head = await read_head(reader)
        seen.append((head, b""))
        return head

    async def watch_body(reader, headers):
        body = await read_body(reader, headers)
        seen.append((None, body))
        return body

    monkeypatch.setattr(server_module, "read_head", watch_head)
    monkeypatch.setattr(server_module, "read_body", watch_body)
    return seen


def test_real_keys_are_not_used(drill, requests, monkeypatch):
    """With keys, addresses and proxies in the environment: none is sent, and all are there again afterwards."""
    for name, value in REAL.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    result = drill("all", "--only", "overloaded", "--only", "all_down", file=EACH)
    assert result.exit_code == Exit.OK, result.stderr
    assert dict(os.environ) == before
    heads = [head for head, _ in requests if head is not None]
    assert {head.target.split("/")[1] for head in heads} == set(WIRES)
    sent = [f"{head and (head.target, head.headers)} {body}" for head, body in requests]
    assert not any("real" in text for text in sent)
    assert sum("stand-in-key" in text for text in sent) >= 5  # the secrets are looked at, not hidden
    assert any(head.headers.get("x-region") == "eu" for head in heads)


def test_neither_budget_nor_ledger_takes_part(drill, config):
    """A drill is no call: nothing is spent and nothing is written down."""
    more = "usage: {ledger: usage.db}\nbudgets: {all: {tokens: 1, per: day}}\n"
    assert drill("pair", "--only", "overloaded", file=TWO + more).exit_code == Exit.OK
    assert [path.name for path in config.parent.iterdir()] == ["models.yaml"]


@table("vendor", WIRES)
def test_every_vendor_is_survived(drilled, vendor):
    """Whoever comes first, nothing is lost, wrong or late: each fault at one vendor, or, in the long run, at all."""
    names = (
        FAULTS if LONG else {"server_error_once", "overloaded", *list(FAULTS)[list(WIRES).index(vendor) :: len(WIRES)]}
    )
    report, rows = drilled(f"after-{vendor}", *(f"--only={name}" for name in names), file=EACH)
    assert report["counts"] == {"ok": len(rows), "slow": 0, "lost": 0, "wrong": 0}
    assert {vendor, "offline"} <= {row["by"] for row in rows.values()} <= {vendor, "offline", None}


def test_the_projects_own_file(drilled):
    """`models.yaml` as it is shipped, without keys: whatever is lost is lost to its own deadline."""
    names = FAULTS if LONG else ("overloaded", "silence", "cut", "stall", "auth", "all_down")
    only = (f"--only={name}" for name in names)
    report, rows = drilled("primary", "--stream", *only, file=(ROOT / "models.yaml").read_text())
    assert report["vendors"] == ["gpt", "claude", "gemini", "qwen", "ollama", "local"]
    assert report["counts"]["wrong"] == 0
    assert all(row["verdict"] in ("ok", "slow") for (_, depth), row in rows.items() if depth == 1)
    assert all(row["why"].startswith("deadline is ") for row in rows.values() if row["verdict"] == "lost")


# -- while it is played ------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_how_far_it_is(monkeypatch):
    """A bar on standard error, gone at the end; nothing in a pipe, and nothing on a terminal that cannot."""
    for term, expected in (("xterm", True), ("dumb", False)):
        monkeypatch.setenv("TERM", term)
        monkeypatch.setattr(sys, "stderr", Terminal())
        with _drill_show.show_progress(2) as tell:
            tell("first")
            tell("second")
        assert ("second" in sys.stderr.getvalue()) is expected
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with _drill_show.show_progress(1) as tell:
        tell("first")
    assert sys.stderr.getvalue() == ""
