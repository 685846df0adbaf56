"""`modelhub usage` says what falling back to another model costs, and what models left out of their calls."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from modelhub.accounting.ledger_location import parse_location
from modelhub.accounting.ledger_reader import open_database
from modelhub.accounting.record import AttemptUsage, UsageRecord
from modelhub.accounting.record_writer import RecordWriter
from modelhub.core.response import COUNTS

NO_TEMPERATURE = {"temperature": "claude-1 does not take it"}


def attempt(model, *, outcome="ok", cost="0.008", cached=700, **changes):
    tokens = dict.fromkeys(COUNTS, 0) | {"input_tokens": 1000, "output_tokens": 10, "cache_read_tokens": cached}
    return AttemptUsage(
        model=model,
        vendor="v",
        model_name=f"{model}-1",
        response_model=None,
        outcome=outcome,
        used=outcome == "ok",
        **(tokens if outcome == "ok" else dict.fromkeys(COUNTS, 0)),
        cost=Decimal(cost) if outcome == "ok" and cost is not None else None if cost is None else Decimal(0),
        prices=None,
        estimated=False,
        started=0.0,
        duration=1.0,
        **changes,
    )


def call(number, *parts):
    costs = [part.cost for part in parts]
    return UsageRecord(
        call_id=f"call-{number}",
        at=datetime.now(UTC) - timedelta(hours=1),
        requested="primary",
        model=parts[-1].model,
        vendor="v",
        model_name=parts[-1].model_name,
        response_model=None,
        outcome="complete",
        error=None,
        **{key: sum(getattr(part, key) for part in parts) for key in COUNTS},
        cost=None if None in costs else sum(costs, Decimal(0)),
        prices=None,
        estimated=False,
        first_token=0.5,
        duration=1.0,
        attempts=len(parts),
        tags={},
        parts=parts,
    )


@pytest.fixture(name="ledger")
def _ledger(tmp_path):
    """Writes a ledger of calls, each given by its attempts."""
    path = tmp_path / "usage.db"

    def write(*calls):
        writer = RecordWriter(open_database(parse_location(str(path))), 5.0)
        writer.add([call(number, *parts) for number, parts in enumerate(calls)])
        writer.close()
        return str(path)

    return write


@pytest.fixture(name="fallen")
def _fallen(ledger):
    """Two answers of the model that was asked first, and one of another, whose cache was cold."""
    cold = attempt("claude", cost="0.031", cached=0, dropped=NO_TEMPERATURE, rounded={"effort": "minimal -> low"})
    return ledger([attempt("gpt")], [attempt("gpt")], [attempt("gpt", outcome="Overloaded"), cold])


def test_answers_after_a_hop_are_compared_with_the_others(run, fallen):
    """What they cost on average, and how much of their input came from a prompt cache."""
    rows = run("usage", "--ledger", fallen).stdout.splitlines()
    assert (
        "hops 1 of 3 answers after a hop to another model: $0.031 each, 0% of the input from a cache; "
        "without a hop $0.0080 each, 70% of the input from a cache"
    ) in rows


def test_a_hop_of_unknown_cost_is_no_cheap_one(run, ledger):
    """A cost that is not known is told so."""
    path = ledger([attempt("gpt", outcome="Overloaded"), attempt("claude", cost=None)])
    (row,) = (row for row in run("usage", "--ledger", path).stdout.splitlines() if row.startswith("hops"))
    assert row == "hops 1 of 1 answer after a hop to another model: cost unknown, 70% of the input from a cache"


def test_what_models_did_not_take_is_shown(run, fallen):
    """By parameter and model, with the reason."""
    rows = [row.split() for row in run("usage", "--ledger", fallen).stdout.splitlines()]
    assert ["left", "out", "temperature", "claude", "1", "attempt", "claude-1", "does", "not", "take", "it"] in rows
    assert ["changed", "effort", "claude", "1", "attempt", "minimal", "->", "low"] in rows
    found = json.loads(run("usage", "--ledger", fallen, "--json").stdout)
    assert {row["name"]: row["dropped"] for row in found} == {"gpt": {}, "claude": {"temperature": 1}}


def test_nothing_is_said_where_nothing_happened(run, ledger):
    """The table stands alone."""
    rows = run("usage", "--ledger", ledger([attempt("gpt")])).stdout.splitlines()
    assert not [row for row in rows if row.startswith(("hops", "left out", "changed"))]


def test_a_filter_holds_for_hops_and_parameters_too(run, fallen):
    """Only calls that the first model answered are left."""
    rows = run("usage", "--ledger", fallen, "--only", "model=gpt").stdout.splitlines()
    assert not [row for row in rows if row.startswith(("hops", "left out"))]


def test_explain_shows_the_share_that_came_from_caches(run, fallen, tmp_path):
    """Of the calls to this chain in the last days, by model; nothing is said where nothing came from one."""
    path = tmp_path / "models.yaml"
    models = "models: {gpt: {provider: scripted}, claude: {provider: scripted}}"
    chains = "chains: {primary: {models: [gpt, claude]}, other: {models: [gpt]}}"
    path.write_text(f"version: 1\n{models}\n{chains}\nusage: {{ledger: usage.db}}\n", encoding="utf-8")
    line = "cached   47% of the input of the last 7 days came from prompt caches (claude 0%, gpt 70%)"
    assert line in run("explain", "primary", "--file", str(path)).stdout.splitlines()
    shown = json.loads(run("explain", "primary", "--json", "--file", str(path)).stdout)
    assert shown["cache_shares"] == {"claude": 0, "gpt": 0.7}
    assert "cached" not in run("explain", "other", "--file", str(path)).stdout


def test_a_ledger_that_cannot_be_read_keeps_nothing_from_being_explained(run, tmp_path):
    """`modelhub usage` says what is wrong with it."""
    path = tmp_path / "models.yaml"
    path.write_text("version: 1\nmodels: {m: {provider: scripted}}\nusage: {ledger: models.yaml}\n", encoding="utf-8")
    result = run("explain", "m", "--file", str(path))
    assert (result.exit_code, "cached" in result.stdout) == (0, False)


def test_the_page_has_the_share_of_the_cache_and_what_a_hop_costs(run, fallen, tmp_path):
    """As figures above, in each row, and as tables of their own."""
    page = tmp_path / "usage.html"
    assert run("usage", "--ledger", fallen, "--html", str(page)).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "<dt>From cache</dt><dd>47%</dd><dd>1,400 of the input</dd>" in text
    assert "<small>70%</small>" in text
    assert "<td>1</td><td>$0.031</td><td>0%</td>" in text
    assert "<td>2</td><td>$0.0080</td><td>70%</td>" in text
    assert "<td>left out</td><td>1</td><td>claude-1 does not take it</td>" in text
