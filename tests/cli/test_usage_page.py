"""`modelhub usage --html`: a page that needs nothing else, and tells what is not known."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from modelhub.accounting.ledger_location import parse_location
from modelhub.accounting.ledger_reader import open_database
from modelhub.accounting.options import SpendingOptions
from modelhub.accounting.record import AttemptUsage, UsageRecord
from modelhub.accounting.record_writer import RecordWriter
from modelhub.cli.usage.page import make_page
from modelhub.cli.usage.page_data import load_figures
from modelhub.cli.usage.page_text import format_dollars, format_percent, format_seconds, format_short
from modelhub.core.response import COUNTS
from tests.tables import table

NOW = datetime(2026, 3, 14, 12, 30, tzinfo=UTC)
VOID = {"meta", "link", "img", "br", "hr", "input"}
HOSTILE = "</script><script>alert(1)</script>\"'&\x1b[31m"
FILE = """\
version: 1
models: {cheap: {provider: scripted, reply: one, pricing: {input: 1, output: 1}}}
usage: {ledger: usage.db, batch: 0}
"""


class Page(HTMLParser):
    """A page taken apart. What is not closed, or closed twice, is a mistake."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def attempt(model="gpt", cost="0.5", **changes):
    values = {
        "model": model,
        "vendor": "openai",
        "model_name": "gpt-1",
        "response_model": None,
        "outcome": "complete",
        "used": True,
        "input_tokens": 12_000,
        "output_tokens": 340,
        "cache_read_tokens": 2000,
        "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0,
        "reasoning_tokens": 0,
        "cost": None if cost is None else Decimal(cost),
        "prices": None,
        "estimated": False,
        "started": 0.0,
        "duration": 1.5,
    }
    return AttemptUsage(**values | changes)


@pytest.fixture(name="ledger")
def _ledger(tmp_path):
    """Write a ledger of calls: how long ago each was, its one attempt, and what else is told of it."""
    path = tmp_path / "usage.db"

    def write(*calls):
        location = parse_location(str(path))
        writer = RecordWriter(open_database(location), 5.0)
        writer.add([record(f"call-{number}", *call) for number, call in enumerate(calls)])
        writer.close()
        return location

    return write


def record(call_id, ago, part, changes=None):
    values = {
        "call_id": call_id,
        "at": NOW - ago,
        "requested": "primary",
        "model": part.model,
        "vendor": part.vendor,
        "model_name": part.model_name,
        "response_model": part.response_model,
        "outcome": "complete",
        "error": None,
        **{name: getattr(part, name) for name in COUNTS},
        "cost": part.cost,
        "prices": None,
        "estimated": part.estimated,
        "first_token": 0.25,
        "duration": part.duration,
        "attempts": 1,
        "tags": {},
        "parts": (part,),
    }
    return UsageRecord(**values | (changes or {}))


def hours(number):
    return timedelta(hours=number)


def test_the_page_loads_nothing_and_runs_nothing(ledger):
    """No address, no script, no style but its own sheet; its policy forbids everything else."""
    text = make_page(ledger((hours(1), attempt()), (hours(30), attempt(cost=None))), None, NOW)
    found = Page(text)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    names = {name for _, attributes in found.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "href", "style", "xlink:href"}
    assert re.findall(r"https?:|//\w|@import", text) == []
    assert set(re.findall(r"url\([^)]*\)", text)) == {"url(#hatch)"}
    sheet = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = next(one["content"] for _, one in found.tags if one.get("http-equiv") == "Content-Security-Policy")
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"


def test_names_from_outside_stay_text(ledger):
    """A model, a chain, a tag, its value and an error may be called anything."""
    changes = {"requested": HOSTILE, "outcome": "failed", "error": HOSTILE, "tags": {HOSTILE: HOSTILE}}
    text = make_page(ledger((hours(1), attempt(HOSTILE), changes)), None, NOW)
    shown = HOSTILE.replace("\x1b", "␛")
    assert "<script" not in text
    assert "\x1b" not in text
    assert Page(text).words.count(shown) >= 5


@pytest.mark.parametrize("since", [None, NOW - timedelta(days=7), NOW + timedelta(days=7)])
def test_nothing_to_show_is_said(ledger, tmp_path, since):
    """No file yet, no calls in it, or none so late."""
    for path in (parse_location(str(tmp_path / "none.db")), ledger()):
        found = Page(make_page(path, since, NOW))
        assert "No calls " in found.text
        assert "svg" not in {tag for tag, _ in found.tags}
        assert "$" not in found.text


def test_an_unknown_cost_is_never_nothing(ledger):
    """It is called unknown in the sum, in the tables, and where the charts mark it."""
    alone = Page(make_page(ledger((hours(1), attempt("free", cost=None))), None, NOW))
    assert "Cost unknown 1 attempt without a price" in alone.text
    assert "free unknown 1 0" in alone.text
    assert "$0" not in alone.text.partition("By model")[2].partition("Figures over time")[0]
    assert "cost unknown" in alone.text
    assert sum(tag == "rect" and one.get("class") == "unknown" for tag, one in alone.tags) == 1
    assert "Their cost is not included in the sums" in alone.text


def test_a_cost_known_in_part_says_so(ledger):
    """What is known stands beside what is not; a known nothing is $0."""
    known, unknown, free = attempt(), attempt("dark", cost=None), attempt("gift", cost="0")
    text = Page(make_page(ledger((hours(1), known), (hours(1), unknown), (hours(2), free)), None, NOW)).text
    assert "$0.50 + unknown" in text
    table = text.partition("By model")[2]
    assert "gpt $0.50 1 0 1 12k 2,000 17% 340 " in table
    assert "dark unknown 1 0 1 12k 2,000 17% 340 " in table
    assert "gift $0 1 0 1 12k 2,000 17% 340 " in table


def test_estimates_are_marked(ledger):
    """Only what includes one has the mark, and a note says what it means."""
    text = Page(make_page(ledger((hours(1), attempt("guess", estimated=True)), (hours(1), attempt())), None, NOW)).text
    assert "guess ≈ $0.50 1 0 1 ≈ 12k ≈ 2,000 17% ≈ 340 " in text
    assert "gpt $0.50 1 0 1 12k 2,000 17% 340 " in text
    assert "≈: includes estimates, for 1 attempt" in text


def test_failures_and_times_are_told(ledger):
    """Percentiles are those of completed calls; failures are named."""
    failed = {"outcome": "failed", "error": "RateLimited", "first_token": None, "duration": 90.0}
    calls = [(hours(1), attempt(), {"duration": number / 10, "first_token": None}) for number in range(1, 21)]
    text = Page(make_page(ledger(*calls, (hours(2), attempt(), failed)), None, NOW)).text
    assert "p50 1 s, p95 1.9 s" in text
    assert "First token - none was timed" in text.replace("\N{EN DASH}", "-")
    assert "No call was timed." in text
    assert "1 call, 4.8%" in text
    assert "RateLimited" in text


def test_time_is_divided_so_that_it_can_be_read(ledger):
    """Bins cover all of the time, without gaps, and every call is in one."""
    path = ledger((hours(1), attempt()), (timedelta(days=13, hours=5), attempt()))
    for since, step in ((NOW - timedelta(days=14), 6), (NOW - timedelta(days=2), 1), (NOW - timedelta(days=900), 6)):
        found = load_figures(path, since, NOW)
        assert found.step == hours(step)
        starts = [one.starts for one in found.bins]
        assert {later - earlier for earlier, later in pairwise(starts)} == {found.step}
        assert starts[-1] <= NOW < starts[-1] + found.step
        assert sum(one.total.calls for one in found.bins) == found.overall.total.calls == (1 if step == 1 else 2)


def test_many_names_are_summed_up(ledger):
    """A table has its dearest rows, then all others together; a chart has as many colours as can be told apart."""
    calls = [
        (hours(1), attempt(f"m{number:02}", cost=str(100 - number)), {"tags": {"user": f"u{number:02}"}})
        for number in range(30)
    ]
    text = Page(make_page(ledger(*calls), None, NOW)).text
    tables = text.partition("By model")[2]
    assert "m19" in tables
    assert "m20" not in tables
    assert re.search(r"10 others \$755\.00 10 0 ", tables)
    assert "25 others" in text


@table(
    ("shown", "expected"),
    [
        (format_short(9_999), "9,999"),
        (format_short(12_345), "12.3k"),
        (format_short(999_999), "1M"),
        (format_short(4_560_000_000), "4.56B"),
        (format_seconds(0.34), "340 ms"),
        (format_seconds(0.9999), "1 s"),
        (format_seconds(12.34), "12.3 s"),
        (format_seconds(125), "2 min 5 s"),
        (format_dollars(Decimal("0.00182")), "$0.0018"),
        (format_dollars(Decimal(12_345)), "$12.3k"),
        (format_percent(0, 0), "0%"),
        (format_percent(1, 5000), "<0.1%"),
        (format_percent(9999, 10_000), "99%"),
        (format_percent(1, 1), "100%"),
    ],
)
def test_figures_are_as_people_read_them(shown, expected):
    """Short, with three digits that say something, and no round number for what is not."""
    assert shown == expected


def test_the_command_writes_the_page(run, config):
    """With calls and without; one form at a time; never over the ledger; something else is no ledger."""
    config.write_text(FILE, encoding="utf-8")
    target = config.parent / "usage.html"
    done = run("usage", "--html", "usage.html")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "No calls since" in target.read_text(encoding="utf-8")
    assert run("chat", "cheap", "hello").exit_code == 0
    assert "wrote usage.html" in run("usage", "--html", "usage.html").stderr
    assert re.search(r"cheap ≈ \$0\.0\d+ 1 0 ", Page(target.read_text(encoding="utf-8")).text)
    assert run("usage", "--html", "usage.html", "--json").exit_code == 2
    assert run("usage", "--html", "usage.db").exit_code == 2
    (config.parent / "other.db").write_text("no database", encoding="utf-8")
    done = run("usage", "--ledger", "other.db", "--html", "usage.html")
    assert (done.exit_code, "cannot be read" in done.stderr) == (1, True)


def test_a_page_can_be_written_to_standard_output(run, config, monkeypatch):
    """As `-`, the way other commands have it; no file of that name is made."""
    done = run("usage", "--ledger", "other.db", "--html", "-")
    assert done.stdout.lstrip().lower().startswith("<!doctype html")
    assert not (config.parent / "-").exists()


def tables(page):
    """The rows of each table of *page*, by its caption."""
    parts = re.findall(r"<caption>(.*?)</caption>(.*?)</table>", page, re.DOTALL)
    rows = {title: re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:] for title, table in parts}
    text = {title: [re.sub(r"<[^>]+>", " ", row) for row in table] for title, table in rows.items()}
    return {title: [" ".join(row.split()) for row in table] for title, table in text.items()}


def test_the_share_of_fallbacks_is_of_answers(ledger):
    """Of complete calls, those that another model answered than the first; a retry of the same model is none."""
    overloaded = attempt(outcome="Overloaded")
    path = ledger(
        (hours(1), attempt(), {"parts": (attempt(),)}),
        (hours(1), attempt(), {"parts": (overloaded, attempt())}),
        (hours(1), attempt("claude"), {"parts": (overloaded, attempt("claude"))}),
        (hours(1), attempt("claude"), {"parts": (attempt(outcome="NotConfigured"), attempt("claude"))}),
        (hours(1), attempt(), {"outcome": "failed", "parts": (attempt("claude", outcome="Overloaded"), overloaded)}),
    )
    assert "Fallback 25% of 4 answers" in Page(make_page(path, None, NOW)).text


def test_the_most_expensive_calls_and_the_last_failures_are_listed(ledger):
    """Calls by cost, without those that cost nothing; failures by time, with what each model answered."""
    failed = {"outcome": "failed", "error": "AllModelsFailed"}
    busy = attempt(cost=None, outcome="Overloaded")
    path = ledger(
        (hours(3), attempt(cost="0.25")),
        (hours(2), attempt(cost="11.5")),
        (hours(1), attempt(cost="0")),
        (hours(5), busy, failed | {"parts": (busy, busy, attempt("claude", None, outcome="RateLimited"))}),
        (hours(4), attempt(cost=None, outcome="TimedOut"), {"outcome": "failed", "error": "TimedOut"}),
    )
    found = tables(make_page(path, None, NOW))
    assert [row.split()[-1] for row in found["Most expensive calls"]] == ["$11.50", "$0.25"]
    assert [row.partition("primary ")[2] for row in found["Last failures"]] == [
        "TimedOut gpt TimedOut 1.5 s",
        "AllModelsFailed gpt Overloaded \N{MULTIPLICATION SIGN}2, claude RateLimited 1.5 s",
    ]


def test_budgets_are_shown_in_their_current_periods(ledger):
    """What is spent of each, the accounts of a tag apart; calls of earlier periods do not count."""
    path = ledger(
        (hours(1), attempt(cost="3"), {"tags": {"user": "ann"}}),
        (hours(2), attempt(cost="9"), {"tags": {"user": HOSTILE}}),
        (hours(24 * 40), attempt(cost="100"), {"tags": {"user": "ann"}}),
    )
    budgets = {"team": SpendingOptions(usd=10, per="month"), "each": SpendingOptions(tag="user", usd=4, per="day")}
    page = make_page(path, None, NOW, budgets=budgets)
    rows = tables(page)["Budgets, in their current periods"]
    assert rows[0] == "team $12.00 $10.00 month 2026-04-01 00:00"
    assert rows[2] == "each ann $3.00 $4.00 day 2026-03-15 00:00"
    assert "<script" not in page
    assert "Budgets" not in make_page(path, None, NOW)


@pytest.mark.parametrize(
    ("only", "calls"),
    [
        ({"model": "claude"}, 1),
        ({"tag:user": "ann"}, 2),
        ({"tag:user": ""}, 1),
        ({"chain": "x", "outcome": "failed"}, 0),
    ],
)
def test_a_filter_holds_for_the_whole_page(ledger, only, calls):
    """Tiles, tables and charts count only what passes it; the page says so."""
    path = ledger(
        (hours(1), attempt(), {"tags": {"user": "ann"}}),
        (hours(2), attempt("claude"), {"tags": {"user": "ann"}}),
        (hours(2), attempt("gpt"), {"requested": "other"}),
    )
    figures = load_figures(path, None, NOW, only=only)
    assert figures.overall.total.calls == calls
    assert sum(bucket.outcomes["complete"] for bucket in figures.bins) == calls
    text = Page(make_page(path, None, NOW, only=only)).text
    assert all(f"only {name} {value}".strip() in text for name, value in only.items())
