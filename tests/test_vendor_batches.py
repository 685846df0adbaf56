"""The vendors' batch APIs: a job hands its rows in together, and asks live what gets no answer there."""

import asyncio
import json
from collections import Counter
from decimal import Decimal

import pytest
from pydantic import BaseModel, field_validator

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.jobs.batch_job import open_job
from modelhub.jobs.errors import JobError
from modelhub.jobs.journal import Journal, find_journal
from modelhub.jobs.plan import JobOptions
from modelhub.testing import FaultServer, VirtualClock, faults, run_virtual
from modelhub.testing.batches import BatchScript

ENTRIES = {
    "openai": {"provider": "openai", "api": "chat", "model_name": "gpt-5-mini"},
    "responses": {"provider": "openai", "api": "responses", "model_name": "gpt-5-mini"},
    "anthropic": {"provider": "anthropic", "model_name": "claude-sonnet-4-5"},
    "gemini": {"provider": "gemini", "model_name": "gemini-2.5-flash"},
}
ROWS = 7


class Setting:
    """A hub whose model is asked in batches of a simulated vendor, and the files of a job."""

    def __init__(self, server, vendor, folder, **entry):
        self.server, self.vendor, self.folder = server, vendor, folder
        self.entry = {
            **ENTRIES[vendor],
            "api_key": "k-secret",
            "base_url": server.url(vendor),
            "batch": {"window": "24h"},
            "pricing": {"input": 1_000_000, "output": 0},
            **entry,
        }
        rows = [json.dumps({"id": number, "text": f"row number {number}"}) for number in range(ROWS)]
        (folder / "rows.jsonl").write_text("\n".join(rows))

    @property
    def batches(self):
        return self.server.batches(self.vendor)

    async def run(self, on_job=lambda job: None, **options):
        config = {"version": 1, "models": {"m": self.entry}, "chains": {"c": {"models": ["m"]}}}
        job_options = JobOptions(self.folder / "rows.jsonl", self.folder / "out.jsonl", "Say {text}", **options)
        async with Hub.from_dict(config, services=Services(clock=VirtualClock())) as hub:
            with open_job(hub, "c", job_options) as job:
                on_job(job)
                progress = await job.run()
            return progress, hub.usage.total

    def read_output(self):
        return sorted(
            (json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()),
            key=lambda row: row["id"],
        )

    def count_live(self):
        return len(self.server.requests(self.vendor))


def with_setting(vendor, folder, **entry):
    """Run a test with a setting in virtual time."""

    def decorate(test):
        async def main():
            async with FaultServer("Here it is.") as server:
                await test(Setting(server, vendor, folder, **entry))

        run_virtual(main())

    return decorate


@pytest.mark.parametrize("vendor", ENTRIES)
def test_rows_are_answered_in_a_batch_at_half_the_price(vendor, tmp_path):
    """Nothing is asked live, and the usage of each row is recorded once."""

    @with_setting(vendor, tmp_path)
    async def _(setting):
        progress, usage = await setting.run()
        rows = setting.read_output()
        assert [row["answer"] for row in rows] == ["Here it is."] * ROWS
        assert (progress.answered, progress.failed, progress.batches.answered) == (ROWS, 0, ROWS)
        assert (len(setting.batches.billed), setting.count_live()) == (ROWS, 0)
        assert (usage.calls, usage.failed) == (ROWS, 0)
        assert usage.cost == sum(row["input_tokens"] for row in rows) * 0.5 > 0


@pytest.mark.parametrize("vendor", ENTRIES)
def test_what_gets_no_answer_in_a_batch_is_asked_live(vendor, tmp_path):
    """Rows that were refused there, and rows that expired; what was answered is kept."""

    @with_setting(vendor, tmp_path)
    async def _(setting):
        outcomes = {1: "error", 4: "expire"}
        setting.batches.script = BatchScript(outcome=lambda number: outcomes.get(number, "answer"))
        progress, _ = await setting.run()
        assert [row["answer"] for row in setting.read_output()] == ["Here it is."] * ROWS
        assert (len(setting.batches.billed), setting.count_live()) == (ROWS - 2, 2)
        assert (progress.batches.answered, progress.batches.unanswered) == (ROWS - 2, 2)


@pytest.mark.parametrize("vendor", ENTRIES)
def test_a_stopped_job_finds_its_batch_again(vendor, tmp_path):
    """The batch stays at the vendor; the next run waits for the same one, and nothing is handed in twice."""

    @with_setting(vendor, tmp_path)
    async def _(setting):
        progress, _ = await setting.run(lambda job: asyncio.get_running_loop().call_later(30, job.stop))
        assert (progress.left, progress.batches.waiting) == (ROWS, ROWS)
        assert setting.read_output() == []
        await setting.run()
        assert len(setting.batches.batches) == 1
        assert (len(setting.batches.billed), setting.count_live()) == (ROWS, 0)
        assert [row["answer"] for row in setting.read_output()] == ["Here it is."] * ROWS


class KilledError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("vendor", ENTRIES)
@pytest.mark.parametrize("after", [True, False])
def test_a_job_that_is_killed_while_it_hands_in_hands_nothing_in_twice(vendor, after, tmp_path, monkeypatch):
    """Whether the vendor had the batch already, and the job did not know its name, or not."""

    @with_setting(vendor, tmp_path)
    async def _(setting):
        def kill(journal, batch_id, name):
            raise KilledError

        name_batch = Journal.name_batch
        if after:
            monkeypatch.setattr(Journal, "name_batch", kill)
        else:
            monkeypatch.setattr(Journal, "name_batch", name_batch)
            monkeypatch.setattr("modelhub.jobs.vendor_batch.batch_model.BatchModel.open_batches", kill_here)
        with pytest.raises(KilledError):
            await setting.run()
        monkeypatch.undo()
        assert len(setting.batches.batches) == after
        await setting.run()
        assert len(setting.batches.batches) == 1
        assert (len(setting.batches.billed), setting.count_live()) == (ROWS, 0)
        assert len(setting.read_output()) == ROWS


def kill_here(*_):
    raise KilledError


@pytest.mark.parametrize("vendor", ENTRIES)
def test_a_batch_whose_time_is_over_is_cancelled_and_its_answers_are_kept(vendor, tmp_path):
    """What it has not answered by then is asked live."""

    @with_setting(vendor, tmp_path, batch={"window": "10m"})
    async def _(setting):
        setting.batches.script = BatchScript(10**9, lambda number: "answer" if number < 3 else "expire")
        await setting.run()
        (batch,) = setting.batches.batches.values()
        assert batch.cancelled
        assert (len(setting.batches.billed), setting.count_live()) == (3, ROWS - 3)
        assert [row["answer"] for row in setting.read_output()] == ["Here it is."] * ROWS


def test_answers_that_were_paid_for_are_kept_though_the_input_has_changed(tmp_path):
    """The rows of a batch are in the journal: they need not be in the file any more."""

    @with_setting("openai", tmp_path)
    async def _(setting):
        await setting.run(lambda job: asyncio.get_running_loop().call_later(30, job.stop))
        original = (tmp_path / "rows.jsonl").read_text()
        (tmp_path / "rows.jsonl").write_text('{"id": 100, "text": "another"}')
        await setting.run()
        (tmp_path / "rows.jsonl").write_text(original)
        await setting.run()
        prompts = Counter(body["messages"][0]["content"] for body in setting.batches.billed)
        assert prompts == {"Say another": 1, **{f"Say row number {number}": 1 for number in range(ROWS)}}


def test_rows_that_are_alike_are_handed_in_once(tmp_path):
    """And all of them are answered."""

    @with_setting("openai", tmp_path)
    async def _(setting):
        (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"id": n, "text": "same"}) for n in range(5)))
        await setting.run()
        assert len(setting.batches.billed) == 1
        assert len(setting.read_output()) == 5


def test_a_budget_holds_for_rows_in_batches(tmp_path):
    """At their price: what a row may cost is set aside until it is answered; rows that do not fit are asked later."""

    @with_setting("openai", tmp_path, ask={"max_tokens": 10}, pricing={"input": 0, "output": 100_000})
    async def _(setting):
        progress, _ = await setting.run(budget=Decimal("2.2"))  # a row may cost $0.5, and has cost $0.15
        assert (len(setting.batches.billed), setting.count_live(), progress.left) == (4, 3, 0)
        assert progress.batches.answered == 4


def test_many_rows_are_several_batches(tmp_path, monkeypatch):
    """Each small enough for what a vendor takes."""
    monkeypatch.setattr("modelhub.jobs.vendor_batch.phase.MAX_ROWS", 3)

    @with_setting("anthropic", tmp_path)
    async def _(setting):
        await setting.run()
        assert [len(batch.rows) for batch in setting.batches.batches.values()] == [3, 3, 1]
        assert [row["answer"] for row in setting.read_output()] == ["Here it is."] * ROWS


class Invoice(BaseModel):
    total: float


@pytest.mark.parametrize("vendor", ENTRIES)
def test_answers_of_a_batch_may_have_a_structure(vendor, tmp_path):
    """As those of single calls."""

    @with_setting(vendor, tmp_path)
    async def _(setting):
        await setting.run(structured_model=Invoice)
        assert all(isinstance(row["output"]["total"], int | float) for row in setting.read_output())
        assert (len(setting.batches.billed), setting.count_live()) == (ROWS, 0)


class Impossible(BaseModel):
    total: float

    @field_validator("total")
    @classmethod
    def _refuse(cls, total):
        raise ValueError("no total is right")


def test_an_answer_that_cannot_be_used_is_asked_again_live(tmp_path):
    """One that does not fit the structure, say."""

    @with_setting("openai", tmp_path, retry={"max_attempts": 1})
    async def _(setting):
        progress, _ = await setting.run(structured_model=Impossible)
        assert (progress.batches.unanswered, setting.count_live()) == (ROWS, ROWS)


def test_a_refused_batch_is_an_error_that_shows_no_key(tmp_path):
    """It says what the vendor says; rows are not asked at the full price instead."""

    @with_setting("openai", tmp_path, model_name="gpt-5-mini")
    async def _(setting):
        setting.entry["base_url"] = setting.server.url("openai") + "/nowhere"
        setting.batches.respond = lambda *_: (401, b'{"error": {"message": "Incorrect API key: k-secret"}}')
        with pytest.raises(JobError, match="batch API of `m`: AuthenticationFailed") as caught:
            await setting.run()
        assert "k-secret" not in str(caught.value)
        assert setting.count_live() == 0


@pytest.mark.parametrize(("vendor", "reason"), [("openai", "Enqueued token limit"), ("gemini", "it says no reason")])
def test_a_batch_that_is_refused_as_a_whole_ends_the_job(vendor, reason, tmp_path):
    """Its rows are not asked at the full price instead, and the next run hands them in again."""

    @with_setting(vendor, tmp_path)
    async def _(setting):
        setting.batches.script = BatchScript(fails=True)
        with pytest.raises(JobError, match=f"the vendor has refused a batch: {reason}"):
            await setting.run()
        setting.batches.script = BatchScript()
        await setting.run()
        assert (len(setting.batches.billed), setting.count_live()) == (ROWS, 0)


def test_what_is_not_json_is_an_error_that_says_so(tmp_path):
    """A proxy's page, say."""

    @with_setting("openai", tmp_path)
    async def _(setting):
        setting.batches.respond = lambda *_: (200, b"<html>")
        with pytest.raises(JobError, match="not JSON"):
            await setting.run()


def test_polling_survives_a_server_that_is_away_for_a_while(tmp_path):
    """The batch goes on without us."""

    @with_setting("openai", tmp_path)
    async def _(setting):
        respond, calls = setting.batches.respond, Counter()

        def fail_sometimes(head, *more):
            calls[head.method] += 1
            return (503, b"{}") if head.method == "GET" and calls["GET"] in (2, 3, 4) else respond(head, *more)

        setting.batches.respond = fail_sometimes
        await setting.run()
        assert (len(setting.batches.billed), setting.count_live()) == (ROWS, 0)


def test_the_journal_holds_no_key_and_forgets_what_is_done(tmp_path):
    """Neither messages nor names of batches stay."""

    @with_setting("openai", tmp_path)
    async def _(setting):
        await setting.run()
        journal = find_journal(tmp_path / "out.jsonl")
        assert b"k-secret" not in journal.read_bytes()
        opened = Journal(journal)
        assert opened.list_batches() == []
        opened.close()


def test_a_vendor_without_a_batch_api_has_no_such_key():
    """It is an error of the file."""
    with pytest.raises(ValueError, match="batch"):
        Hub.from_dict(
            {"version": 1, "models": {"m": {"provider": "ollama", "model_name": "x", "batch": {"window": "24h"}}}}
        )


def test_the_next_model_of_a_chain_is_asked_live_if_the_first_has_failed_in_its_batch(tmp_path):
    """What is asked live is asked of the whole chain."""

    @with_setting("openai", tmp_path)
    async def _(setting):
        setting.batches.script = BatchScript(outcome=lambda number: "error")
        setting.server.script("openai", [faults.status(401)])
        config = {
            "version": 1,
            "models": {"m": setting.entry, "n": {"provider": "scripted", "reply": "live"}},
            "chains": {"c": {"models": ["m", "n"]}},
        }
        options = JobOptions(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", "Say {text}")
        async with Hub.from_dict(config, services=Services(clock=VirtualClock())) as hub:
            with open_job(hub, "c", options) as job:
                await job.run()
        assert {row["answer"] for row in setting.read_output()} == {"live"}
