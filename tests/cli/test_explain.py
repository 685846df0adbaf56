"""`modelhub explain`: what a call would do, and whether that is true."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from modelhub.cli.chain_plan import Plan
from modelhub.cli.exit import Exit
from modelhub.config.load import load_text
from modelhub.core.errors import CallError, failure_classes
from modelhub.hub import Hub
from tests.tables import table


def test_a_chain_is_told_member_by_member(run):
    """Who is asked, in which order, with what limits; who is skipped and why."""
    result = run("explain", "primary")
    assert result.exit_code == Exit.OK
    rows = result.stdout.splitlines()
    assert rows[:7] == [
        "primary  chain, deadline 90 s, broken streams restart on the next model",
        "  1 keyless  scripted ${SCRIPT_NAME}  not configured (set SCRIPT_NAME): skipped",
        "  2 limited  scripted script-1",
        "             retry 3 attempts, at once · connect 5 s · streams: first token 30 s, idle 30 s · total 120 s",
        "  3 flaky    scripted script-2        limit tier (500 requests/min, 200k tokens/min, 16 at once)",
        "             retry 3 attempts, at once · connect 5 s · streams: first token 30 s, idle 30 s · total 120 s",
        "  4 offline  scripted",
    ]
    assert "layers   chain > usage > deadline > retry > breaker > limit > timeout > prompt cache > provider" in rows
    assert "at worst 7 attempts, 90 s" in rows
    left = "500 of 500 requests/min, 200000 of 200000 tokens/min, 16 of 16 places"
    assert f"left     tier: {left} (in a new process)" in rows


def test_every_value_says_where_it_comes_from(run):
    """What the defaults set is told once; what an entry sets, with its name."""
    rows = run("explain", "primary").stdout.splitlines()
    start = next(at for at, row in enumerate(rows) if row.startswith("where"))
    assert rows[start] == "where    retry.max_attempts = 3  defaults, models.yaml:3"
    assert "         flaky.limit = tier      models.yaml:16" in rows
    assert rows[-1] == "         primary.deadline = 90s  models.yaml:29"


def test_a_model_alone(run):
    """A model is told like a chain of one, without a number."""
    rows = run("explain", "thinker").stdout.splitlines()
    assert rows[0] == "thinker  model  scripted"
    assert rows[1].endswith("total 120 s · $3 in, $15 out per million tokens")
    assert rows[3] == "at worst 1 attempt, 120 s; highest cost of a call with 8k in, 2k out: $0.054"


def test_timeouts_of_streams_are_said_to_be_those(run, config):
    """They hold for plain calls only where these are streamed internally, by the model or a chain around it."""
    text = "version: 1\ndefaults: {timeout: {slow: {below: 20/s}}}\nmodels:\n"
    text += "  a: {provider: openai, model_name: m, api_key: k}\n"
    text += "  b: {provider: openai, model_name: m, api_key: k, stream_inside: true}\n"
    text += "chains: {main: {models: [a, b]}, outer: {models: [main], stream_inside: true}}\n"
    config.write_text(text)
    plain = "connect 5 s · streams: first token 30 s, idle 30 s, slow below 20/s · total 120 s"
    inside = "connect 5 s · first token 30 s · idle 30 s · slow below 20/s · total 120 s"
    for name, shown in {"a": [plain], "b": [inside], "main": [plain, inside], "outer": [inside, inside]}.items():
        rows = [row for row in run("explain", name).stdout.splitlines() if " · connect" in row]
        assert [row[row.index("connect") :] for row in rows] == shown


@table(
    ("step", "always"),
    [
        ("wait: 1s", True),
        ("wait: 4s", False),
        ("pause: 1s", True),
        ("pause: 4s", False),
        ("wait: 1s, pause: 1900ms", False),
        ("fail: Overloaded", False),
    ],
)
def test_a_script_that_is_slower_than_its_timeouts_may_fail(run, config, step, always):
    """It is not said to answer always, nor that the models after it are never called."""
    config.write_text(
        "version: 1\ndefaults: {timeout: {first_token: 2s, idle: 2s, total: 6s}}\nmodels:\n"
        f"  a: {{provider: scripted, steps: [{{say: one two three, {step}}}]}}\n"
        "  b: {provider: scripted, reply: x}\nchains: {main: {models: [a, b]}}\n"
    )
    assert ("a always answers: b after it is never called" in run("explain", "main").stdout) is always


ARMS = """
version: 1
models:
  a: {provider: openai, model_name: m, api_key: k1}
  b: {provider: openai, model_name: m, api_key: k2, retry: {max_attempts: 2}}
  c: {provider: openai, model_name: m, api_key: "${NOT_SET}"}
  d: {provider: anthropic, model_name: n, api_key: k3}
chains:
  main: {models: [{arms: {a: 3, b: 1, c: 4}, by: tag:user}, d]}
"""


def test_arms_are_shown_with_their_shares(run, config):
    """Of the calls that can be made now; at worst every arm is asked as often as it may be."""
    config.write_text(ARMS)
    rows = run("explain", "main").stdout.splitlines()
    assert rows[1].split("  ")[-1].strip() == "arm: 75 % of the calls, by tag:user"
    assert rows[3].split("  ")[-1].strip() == "arm: 25 % of the calls, by tag:user"
    assert rows[5].endswith("not configured (set NOT_SET): skipped")
    assert next(row for row in rows if row.startswith("at worst")).startswith("at worst 8 attempts")
    members = json.loads(run("explain", "main", "--json").stdout)["members"]
    assert [(member["number"], member.get("share")) for member in members] == [(1, 0.75), (1, 0.25), (1, 0), (2, None)]


def test_keys_that_share_a_named_limit_are_warned_of(run, config):
    """A vendor's rate limit pauses a named limit for all; keys whose limit is described have one each."""
    text = """
version: 1
limits: {tier: {concurrency: 4}}
models:
  gpt: {provider: openai, model_name: m, limit: LIMIT, keys: [{api_key: a}, {api_key: b, name: spare}]}
"""
    warning = "gpt#1 and gpt#spare share limit tier: a rate limit of one pauses all"
    config.write_text(text.replace("LIMIT", "tier"))
    assert warning in run("explain", "gpt").stdout
    config.write_text(text.replace("LIMIT", "{concurrency: 4}"))
    assert warning not in run("explain", "gpt").stdout


def test_a_chain_says_what_a_hop_costs_that_loses_the_prompt_cache(run, config):
    """The prompt is read from the first model's cache, and in full by the next one."""
    config.write_text(
        """
version: 1
models:
  a: {provider: scripted, reply: x, pricing: {input: 2, output: 8, cache_read: 0.2}}
  b: {provider: scripted, reply: x, pricing: {input: 3, output: 15}}
chains: {main: {models: [a, b]}}
""",
        encoding="utf-8",
    )
    rows = run("explain", "main").stdout.splitlines()
    assert any(row.endswith("8k of prompt: $0.0016 from the cache of a, $0.024 after a hop to b") for row in rows)


def test_published_prices_say_what_a_hop_costs_too(run, config):
    """Without a price in the file; with `usage: {cost: false}` nothing is said of costs."""
    pytest.importorskip("genai_prices")
    text = """
version: 1
models:
  gpt: {provider: openai, model_name: gpt-4.1, api_key: k}
  claude: {provider: anthropic, model_name: claude-sonnet-4-5, api_key: k}
chains: {main: {models: [gpt, claude]}}
"""
    config.write_text(text, encoding="utf-8")
    worst = json.loads(run("explain", "main", "--json").stdout)["worst"]
    hop, dearest = worst["hop"], worst["dearest_call"]
    assert (hop["from"], hop["to"], dearest["model"]) == ("gpt", "claude", "claude")
    assert 0 < Decimal(hop["cached"]) < Decimal(hop["fresh"]) < Decimal(dearest["cost"])
    config.write_text(f"{text}usage: {{cost: false}}\n", encoding="utf-8")
    worst = json.loads(run("explain", "main", "--json").stdout)["worst"]
    assert (worst["hop"], worst["dearest_call"]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "api"),
    [
        ("", "Responses API"),
        (", api: chat", "chat completions"),
        (", base_url: http://127.0.0.1:9", "chat completions"),
    ],
)
def test_which_of_openais_apis_is_asked(run, config, fields, api):
    """By the address, or as the file says."""
    config.write_text(f"version: 1\nmodels: {{gpt: {{provider: openai, model_name: m, api_key: k{fields}}}}}\n")
    assert run("explain", "gpt").stdout.splitlines()[1].startswith(f"  {api} · retry ")


@pytest.mark.parametrize(
    ("more", "consequence"),
    [("", "is left out"), ("parameters: {unsupported: refuse}\n", "keeps it from being called")],
)
def test_what_is_left_out_of_ask_is_told(run, config, more, consequence):
    """By the model or by the chain; and in JSON whatever a call might say in vain."""
    config.write_text(
        "version: 1\n"
        f"{more}"
        "models: {claude: {provider: anthropic, model_name: claude-opus-4-8, api_key: k, ask: {temperature: 0.1}}}\n"
        "chains: {main: {models: [claude], ask: {seed: 1, max_tokens: 9}}}\n"
    )
    found = json.loads(run("explain", "main", "--json").stdout)
    assert [note for note in found["watch"] if "`ask`" in note] == [
        f"`temperature` of `ask` {consequence} for claude: claude-opus-4-8 does not take it",
        f"`seed` of `ask` {consequence} for claude: Anthropic has no such parameter",
    ]
    assert set(found["members"][0]["unsupported_parameters"]) == {
        *("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty"),
        *("logprobs", "top_logprobs", "n"),
    }


def test_chains_in_a_chain_are_indented(run):
    """An inner chain's models stand below it."""
    rows = run("explain", "nested").stdout.splitlines()
    assert rows[1:3] == [
        "  1 failing    chain",
        "    1 keyless  scripted ${SCRIPT_NAME}  not configured (set SCRIPT_NAME): skipped",
    ]
    assert any(row.startswith("  2 down       scripted") for row in rows)


def test_json_has_the_same(run):
    """`--json` has members, layers, bounds, notes and origins."""
    found = json.loads(run("explain", "primary", "--json").stdout)
    assert [member["name"] for member in found["members"]] == ["keyless", "limited", "flaky", "offline"]
    assert found["members"][2]["layers"]["limit"] == "tier"
    assert (found["layers"][0], found["layers"][-1]) == ("chain", "provider")
    assert found["worst"]["attempts"] == 7
    assert found["left"]["tier"]["rates"]["requests/min"] == {"limit": 500, "left": 500}
    assert {"path": "primary.deadline", "value": "90s", "source": "entry", "file": "models.yaml", "line": 29} in found[
        "where"
    ]


BUDGETS = """\
budgets:
  all: {usd: 20, per: day, on_unpriced: allow}
  users: {tokens: 1000, per: 30d, tag: user, on_exceeded: warn}
  nightly: {tokens: 5000, per: month, tag: job=nightly}
  thinkers: {usd: 0.5, per: hour, model: thinker}
  chains: {tokens: 7, per: hour, chain: primary}
"""


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("thinker", "thinkers: $0.5 per hour for model thinker, then calls fail"),
        ("primary", "chains: 7 tokens per hour for chain primary, then calls fail"),
    ],
)
def test_budgets_of_a_call_are_told(config, run, name, own):
    """Those of its models, of its name, of tags, and of everything; not those of others."""
    config.write_text(config.read_text(encoding="utf-8") + BUDGETS, encoding="utf-8")
    rows = [row[9:] for row in run("explain", name).stdout.splitlines()]
    start = rows.index("all: $20 per day for every call, then calls fail")
    assert rows[start + 1 : start + 4] == [
        "users: 1,000 tokens per 30d for tag user (for each value), then a warning",
        "nightly: 5,000 tokens per month for tag job=nightly, then calls fail",
        own,
    ]
    budgets = json.loads(run("explain", name, "--json").stdout)["budgets"]
    assert list(budgets) == ["all", "users", "nightly", own.partition(":")[0]]
    assert budgets["users"]["tokens"] == 1000


VENDORS = """\
version: 1
limits: {tier: {concurrency: 4}}
models:
  gpt: {provider: openai, model_name: a, api_key: sk-one-1234567890, limit: tier}
  mini: {provider: openai, model_name: b, api_key: sk-one-1234567890, limit: tier}
  other: {provider: openai, model_name: c, api_key: sk-two-1234567890}
  away: {provider: openai, model_name: d, api_key: sk-two-1234567890, base_url: "https://example.com/v1"}
  unset: {provider: openai, model_name: e, api_key: "${NO_SUCH_KEY}"}
  script: {provider: scripted}
chains:
  alone: {models: [gpt, unset, script], deadline: 5m}
  one_key: {models: [gpt, mini], deadline: 5m}
  one_endpoint: {models: [gpt, other], deadline: 5m}
  two_vendors: {models: [gpt, away], deadline: 5m}
  hurried: {models: [gpt, away], deadline: 60s}
  backwards: {models: [script, gpt], deadline: 5m}
  nothing: {models: [unset], deadline: 5m}
  scripts: {models: [unset, script], deadline: 5m}
  no_end: {models: [gpt, away]}
"""


@table(
    ("chain", "notes"),
    [
        (
            "alone",
            ["gpt is the only configured model of a vendor: its outage leaves the scripted reply of script"],
        ),
        (
            "one_key",
            [
                "gpt and mini share one endpoint and key (openai): one outage, or one revoked key, leaves no answer",
                "gpt and mini share limit tier: while one waits for it, so do the others",
            ],
        ),
        ("one_endpoint", ["gpt and other share one endpoint (openai): one outage leaves no answer"]),
        ("two_vendors", []),
        (
            "backwards",
            [
                "gpt is the only configured model of a vendor: its outage leaves the scripted reply of script",
                "script always answers: gpt after it is never called",
            ],
        ),
        ("nothing", ["nothing is configured, so every call fails: set NO_SUCH_KEY"]),
        ("scripts", ["no vendor is configured: only scripted models are called"]),
        (
            "hurried",
            [
                (
                    "gpt alone may use up the deadline (120 of 60 s), so that no other model is tried if it does "
                    "not answer; lower its `timeout.total`, or raise the `deadline`"
                )
            ],
        ),
        ("no_end", ["no deadline: a call may wait as long as a vendor or a limit makes it; add `deadline:`"]),
    ],
)
def test_single_points_of_failure_are_named(run, config, chain, notes):
    """Each `watch` note stands where it is due, and only there; no key is ever shown."""
    config.write_text(VENDORS)
    result = run("explain", chain, "--json")
    assert json.loads(result.stdout)["watch"] == notes
    assert "sk-one" not in result.output
    assert "sk-one" not in run("explain", chain).output


WORST = """\
version: 1
defaults: {retry: {max_attempts: 3, initial_wait: 0, max_wait: 0}, breaker: {failures: 1000}}
models:
  a: {provider: scripted, steps: [{fail: Overloaded}]}
  b: {provider: scripted, steps: [{fail: Overloaded}, {fail: Overloaded}, {say: one two, break_after: 1},
      {fail: Overloaded}, {fail: Overloaded}, {say: one two, break_after: 1}]}
chains:
  inner: {models: [a, b]}
  both: {models: [inner, a]}
  raising: {models: [a, b], on_broken_stream: raise}
"""


@table("name", ["a", "b", "inner", "raising"])
@table("stream", [False, True])
async def test_the_worst_case_is_a_bound(name, stream):
    """No call makes more attempts than `at worst` says, and a script that does its worst makes as many."""
    loaded = load_text(WORST)
    bound = Plan(loaded, name, {}).find_worst_case().attempts
    attempts = 0
    async with Hub(loaded) as hub:
        try:
            reply = await hub.get(name)("hi", stream=stream)
            if stream:
                await reply.final()
            attempts = len(reply["attempts"])
        except CallError as error:
            attempts = len(error.attempts)
    assert attempts <= bound
    if name in {"inner", "b"} and stream:
        assert attempts == bound


def test_the_failure_table_has_every_class(run):
    """Every class with a verdict has its row, as text, Markdown and JSON."""
    names = [cls.__name__ for cls in failure_classes()]
    text = run("explain", "--failures").stdout.splitlines()
    assert [row.split()[0] for row in text[1:]] == names
    assert text[10].split("  ")[0] == "RateLimited"
    markdown = run("explain", "--failures", "--markdown").stdout.splitlines()
    assert markdown[0] == "| class | what | retry same model | fall back | breaker | may have cost money |"
    assert "| `Overloaded` | 503, 529 | yes | yes | counts | no |" in markdown
    assert "| `IdleTimeout` | no further content within `timeout.idle` |" in "\n".join(markdown)
    assert len(markdown) == len(names) + 2
    as_json = json.loads(run("explain", "--failures", "--json").stdout)
    assert as_json[0]["retry_same_model"] == "no"


@pytest.mark.parametrize("arguments", [[], ["primary", "--failures"], ["primary", "--markdown"]])
def test_a_name_or_the_table(run, arguments):
    """Both, or neither, is a usage error."""
    assert run("explain", *arguments).exit_code == Exit.USAGE
