"""`modelhub usage`: what the ledger says, as a table, JSON or CSV."""

import asyncio
import csv
import io
import json
from decimal import Decimal

import pytest

from modelhub import Hub
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.usage.table import format_table
from tests.tables import table

FILE = """\
version: 1
models:
  dear: {provider: scripted, reply: one two three, pricing: {input: 1000, output: 10000}}
  cheap: {provider: scripted, reply: one, pricing: {input: 1, output: 1}}
  unknown: {provider: scripted, reply: one}
usage: {ledger: usage.db, batch: 0}
"""


@pytest.fixture(name="used")
def _used(config, run, monkeypatch):
    # A scripted answer costs nothing; here it stands for one whose price nobody knows.
    monkeypatch.setattr("modelhub.accounting.prices.FreePrice.cost", lambda *_: None)
    config.write_text(FILE, encoding="utf-8")
    for name in ("dear", "cheap", "cheap", "unknown"):
        assert run("chat", name, "hello there").exit_code == 0
    return run


def test_a_table_with_a_bar_for_each_row(used):
    """The dearest first; what is not known is told, not taken for nothing."""
    rows = used("usage").stdout.splitlines()
    assert rows[0].split() == ["model", "calls", "failed", "attempts", "input", "cached", "output", "cost"]
    # 2 x 1000 + 3 x 10000 millionths of a dollar
    assert rows[1].split()[:8] == ["dear", "1", "0", "1", "2", "0", "3", "$0.032"]
    assert rows[1].rstrip().endswith("█" * 24)
    assert rows[2].split()[:8] == ["cheap", "2", "0", "2", "4", "0", "2", "$0.0000060"]
    assert rows[3].split()[-1] == "?"
    assert rows[4].split()[0] == "total"
    assert "+ ?" in rows[4]
    assert rows[5].startswith("since 2")
    assert "4 attempts, 4 of them estimated, 1 without a known price (?)" in rows[5]


def test_the_share_of_the_input_that_came_from_a_cache_is_shown():
    """Beside its tokens, where there are any."""
    totals = {"a": UsageTotals(1, input_tokens=2000, cache_read_tokens=860), "b": UsageTotals(1, input_tokens=10)}
    rows = [row.plain for row in format_table(totals, "model", None)]
    assert "860 (43%)" in rows[1]
    assert "%" not in rows[2]
    assert totals["a"].as_dict()["cache_share"] == 0.43


def test_a_model_that_only_failed_is_seen(config, run):
    """Its calls count for who answered them; its attempts are its own."""
    models = "bad: {provider: scripted, steps: [{fail: Overloaded}]}\n  good: {provider: scripted}"
    chain = "chains: {main: {models: [bad, good]}}\nusage: {ledger: usage.db, batch: 0}\n"
    retry = "defaults: {retry: {max_attempts: 2, initial_wait: 0}}\n"
    config.write_text(f"version: 1\n{retry}models:\n  {models}\n{chain}", encoding="utf-8")
    assert run("chat", "main", "hello").exit_code == 0
    rows = {row.split()[0]: row.split()[1:4] for row in run("usage").stdout.splitlines()}
    assert (rows["good"], rows["bad"]) == (["1", "0", "1"], ["0", "0", "2"])


def test_json_and_csv_have_all_figures(used):
    """The same rows, with nothing rounded."""
    found = json.loads(used("usage", "--json", "--by", "chain").stdout)
    assert [(row["name"], row["calls"], row["cost"]) for row in found] == [
        ("dear", 1, "0.032"),
        ("cheap", 2, "0.000006"),
        ("unknown", 1, None),
    ]
    rows = list(csv.DictReader(io.StringIO(used("usage", "--csv", "--since", "ever").stdout)))
    assert [(row["name"], row["output_tokens"], row["cost"]) for row in rows] == [
        ("dear", "3", "0.032"),
        ("cheap", "2", "0.000006"),
        ("unknown", "1", ""),
    ]


def test_since_and_by_are_understood_or_told(used):
    """A span, a date, `ever`; a wrong one is a mistake of the command line."""
    for since in ("7d", "1h", "2020-01-01", "ever"):
        assert len(json.loads(used("usage", "--json", "--since", since, "--by", "day").stdout)) == 1
    assert "no calls since" in used("usage", "--since", "2100-01-01").stdout
    for wrong in (("--since", "week"), ("--by", "colour"), ("--by", "tag:"), ("--csv", "--json")):
        assert used("usage", *wrong).exit_code == 2


@table(
    ("by", "names", "shown"),
    [
        ("day", ["2026-02-27", "2026-03-02"], ["2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02"]),
        ("month", ["2025-11", "2026-02"], ["2025-11", "2025-12", "2026-01", "2026-02"]),
        ("hour", ["2026-02-27T22", "2026-02-28T01"], [f"2026-02-2{at}" for at in ("7T22", "7T23", "8T00", "8T01")]),
        ("day", ["1970-01-01", "2026-03-02"], ["1970-01-01", "2026-03-02"]),
        ("model", ["a", "c"], ["a", "c"]),
    ],
)
def test_times_without_calls_have_a_row_too(by, names, shown):
    """Else what is drawn below each other did not follow each other; unless it would be hundreds."""
    rows = [
        row.plain.split()
        for row in format_table({name: UsageTotals(1, known_cost=Decimal(1)) for name in names}, by, None)
    ]
    assert [row[0] for row in rows[1:-2]] == shown
    assert {tuple(row[1:]) for row in rows[1:-2] if row[0] not in names} <= {("0",) * 6 + ("$0",)}
    assert rows[-2] == ["total", "2", *["0"] * 5, "$2.00"]


def test_all_together_is_one_row(used):
    """`--by all` has no name to tell it by."""
    assert [row.split()[:2] for row in used("usage", "--by", "all").stdout.splitlines()[1:-1]] == [["total", "4"]]


def test_without_a_ledger_one_is_told_what_to_do(run, config):
    """The file keeps none; or there is none yet; or it is something else."""
    done = run("usage")
    assert done.exit_code == 3
    assert "add `usage: {ledger: usage.db}`" in done.stderr
    config.write_text(FILE, encoding="utf-8")
    done = run("usage")
    assert done.exit_code == 0
    assert "no calls yet" in done.stderr
    (config.parent / "other.db").write_text("no database", encoding="utf-8")
    done = run("usage", "--ledger", "other.db")
    assert done.exit_code == 1
    assert "other.db cannot be read" in done.stderr


def test_a_name_is_no_formula_in_a_spreadsheet(capsys):
    """What begins like one is marked as text."""
    from modelhub.accounting.usage_totals import UsageTotals
    from modelhub.cli.usage.command import print_csv

    print_csv({name: UsageTotals(1) for name in ("=1+1", "+1", "-1", "@a", "\tb", "plain")})
    names = [row["name"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert names == ["'=1+1", "'+1", "'-1", "'@a", "'\tb", "plain"]


def test_a_report_by_tag_counts_every_call_once(config, run):
    """A call with several tags is in one row; those without the tag, or with an empty one, share the last."""
    config.write_text(FILE, encoding="utf-8")

    async def call_with_tags():
        async with Hub.from_yaml(config) as hub:
            for tags in ({"user": "ann", "job": "x"}, {"user": "ann", "naïve": "é"}, {"job": "x"}, {"user": ""}, {}):
                await hub.get("cheap")("hello there", tags=tags)

    asyncio.run(call_with_tags())
    rows = [row.split()[:4] for row in run("usage", "--by", "tag:user").stdout.splitlines()]
    assert rows[1:4] == [["-", "3", "0", "3"], ["ann", "2", "0", "2"], ["total", "5", "0", "5"]]
    counts = {
        tag: {row["name"]: row["calls"] for row in json.loads(run("usage", "--json", "--by", f"tag:{tag}").stdout)}
        for tag in ("job", "naïve")
    }
    assert counts == {"job": {"": 3, "x": 2}, "naïve": {"": 4, "é": 1}}


def test_a_filter_and_budgets_in_the_terminal(used, config):
    """`--only` counts what passes it, and budgets stand below with what is spent of them."""
    budget = "\nbudgets: {team: {usd: 0.02, per: month, model: dear}, all: {tokens: 1000, per: day}}\n"
    config.write_text(FILE + budget, encoding="utf-8")
    lines = used("usage", "--only", "chain=cheap", "--only", "outcome=complete").stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["model", "cheap", "total"]
    assert lines[-2].startswith("budget team: $0.032 of $0.020 per month (160%), resets 2")
    assert lines[-1].startswith("budget all: 14 of 1,000 tokens per day (1%), resets 2")
    assert "model" in used("usage", "--only", "colour=red").stderr
    assert "expected NAME=VALUE" in used("usage", "--only", "red").stderr
