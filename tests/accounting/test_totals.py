"""Whatever happens to random calls: one record each, and totals, ledger and budgets that say the same.

MODELHUB_LONG=1 tries five times as many.
"""

import asyncio
import contextlib
import gc
import os
import tempfile
import warnings
from decimal import Decimal
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhub import CallError, Hub
from modelhub.accounting.record import UsageRecord
from modelhub.accounting.report import query_report
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.core.context import Services
from modelhub.core.events import CallEnded
from modelhub.core.response import COUNTS
from modelhub.testing import VirtualClock, run_virtual

LONG = bool(os.environ.get("MODELHUB_LONG"))
FAILURES = ["Overloaded", "RateLimited", "ServerError", "BadReply", "AuthenticationFailed", "ContentBlocked"]

steps = st.one_of(
    st.builds(lambda say, pause: {"say": say, "pause": pause}, st.sampled_from(["", "a", "a b c"]), st.just(1)),
    st.builds(lambda name: {"fail": name}, st.sampled_from(FAILURES)),
    st.builds(lambda after: {"say": "long enough to break", "break_after": after}, st.integers(0, 3)),
    st.just({"say": "late", "wait": 20}),
)
models = st.lists(
    st.tuples(st.lists(steps, min_size=1, max_size=3), st.sampled_from([None, "0.3", "2"])), min_size=1, max_size=3
)
calls = st.lists(
    st.tuples(
        st.sampled_from(["plain", "read", "close", "forget", "cancel"]),
        st.integers(0, 2),  # which model, or the chain
        st.dictionaries(st.sampled_from(["user", "job"]), st.sampled_from(["1", "2"]), max_size=2),
    ),
    min_size=1,
    max_size=5,
)


def config(scripts, ledger):
    entries = {}
    for number, (script, price) in enumerate(scripts):
        pricing = {} if price is None else {"pricing": {"input": price, "output": "7.77"}}
        entries[f"m{number}"] = {"provider": "scripted", "steps": script, "timeout": {"first_token": 5}, **pricing}
    return {
        "version": 1,
        "models": entries,
        "chains": {"c": {"models": list(entries)}},
        "budgets": {
            "tokens": {"tokens": 10**9, "per": "30d"},
            "money": {"usd": 10**9, "per": "30d"},
            "user": {"tokens": 10**9, "per": "30d", "tag": "user"},
        },
        "usage": {"ledger": str(ledger), "batch": 3, "max_delay": "10ms"},
    }


async def make_call(hub, how, which, tags):
    name = f"m{which}" if f"m{which}" in hub else "c"
    if how == "plain":
        await hub.get(name)("hello there", tags=tags)
        return
    stream = await hub.get(name).with_tags(tags)("hello there", stream=True)
    async for _ in stream:
        if how != "read":
            break
    if how == "close":
        await stream.aclose()


async def play(hub, plan):
    for how, which, tags in plan:
        task = asyncio.ensure_future(make_call(hub, how, which, tags))
        if how == "cancel":
            asyncio.get_running_loop().call_later(2, task.cancel)
        with contextlib.suppress(CallError, asyncio.CancelledError):
            await task
        del task
        gc.collect(0)
        await asyncio.sleep(1)


def summed(records, parts_of):
    """The sum of *records*, of which only the parts that *parts_of* gives."""
    total = UsageTotals()
    for record in records:
        for part in parts_of(record):
            total.attempts += 1
            total.estimated += part.estimated
            total.unpriced += part.used and part.cost is None
            total.known_cost += part.cost or 0
            for key in COUNTS:
                setattr(total, key, getattr(total, key) + getattr(part, key))
    return total


def with_calls(total, records):
    total.calls = len(records)
    total.failed = sum(record.outcome == "failed" for record in records)
    return total


@settings(max_examples=40 if LONG else 8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(models, calls)
def test_totals_are_the_sum_of_the_records(scripts, plan):
    """By model, chain and tag; in memory, in the file, and on the budgets, also after a restart."""
    records = []

    def observe(event):
        if isinstance(event, CallEnded):
            records.append(UsageRecord.from_event(event))

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # forgotten streams say so
        ledger = Path(folder) / "usage.db"
        services = Services(clock=VirtualClock(), observers=(observe,))
        hub = Hub.from_dict(config(scripts, ledger), services=services)
        run_virtual(play(hub, plan), grace=0)
        hub.close()
        usage = hub.usage

        assert len(records) == len({record.call_id for record in records}) == len(plan)
        whole = with_calls(summed(records, lambda record: record.parts), records)
        assert usage.total == whole
        assert usage.by_chain == by(records, lambda record: [record.requested])
        assert query_report(ledger, by="chain") == usage.by_chain
        assert query_report(ledger, by="all") == {"": whole}
        for tag, values in usage.by_tag.items():
            tagged = [record for record in records if tag in record.tags]
            assert values == by(tagged, lambda record, tag=tag: [record.tags[tag]])
            assert {name: one for name, one in query_report(ledger, by=f"tag:{tag}").items() if name} == values
        check_models(records, usage, ledger)
        check_budgets(hub, whole)


def by(records, names):
    groups = {}
    for record in records:
        for name in names(record):
            groups.setdefault(name, []).append(record)
    return {name: with_calls(summed(group, lambda record: record.parts), group) for name, group in groups.items()}


def check_models(records, usage, ledger):
    found = usage.by_model
    for name, total in found.items():
        of_it = summed(records, lambda record, name=name: [part for part in record.parts if part.model == name])
        assert total == with_calls(of_it, [record for record in records if record.model == name])
    assert {name: one for name, one in query_report(ledger).items() if name} == found
    assert sum(total.attempts for total in found.values()) == sum(record.attempts for record in records)


def check_budgets(hub, whole):
    shown = {(one["budget"], one["of"]): one for one in hub.usage.budgets}
    assert Decimal(shown["tokens", None]["spent"]) == whole.total_tokens
    assert Decimal(shown["money", None]["spent"]) == whole.known_cost
    assert shown["money", None]["unpriced"] == whole.unpriced
    assert all(Decimal(one["held"]) == 0 for one in shown.values())
    again = Hub(hub.loaded, services=hub.services)
    restored = {(one["budget"], one["of"]): one for one in again.usage.budgets}
    for key, one in shown.items():
        kept = restored.get(key)
        assert (Decimal(kept["spent"]) if kept else 0, kept["unpriced"] if kept else 0) == (
            Decimal(one["spent"]),
            one["unpriced"],
        )
