"""`model.map(rows)`: one call for each of many rows, a bounded number of them at a time."""

import asyncio
import gc
import itertools
from decimal import Decimal

import pytest
from pydantic import BaseModel

from modelhub import Hub, HubClosed, InvalidRequest, Overloaded, RowResult, UnsupportedFeature
from modelhub.core.context import Services
from modelhub.core.model import ChatModelBase
from modelhub.core.response import ChatResponse, ChatUsage
from modelhub.testing import VirtualClock, run_virtual
from tests.tables import table


class Echo(ChatModelBase):
    """Answers with the text of the last message, after as many seconds as it says; `fail` raises Overloaded."""

    def __init__(self):
        super().__init__("echo", stream=False)
        self.services = Services(clock=VirtualClock())
        self.requests, self.under_way, self.most, self.cancelled = [], 0, 0, 0

    async def send(self, request):
        self.requests.append(request)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        text = request.messages[-1].blocks[0].text
        try:
            await asyncio.sleep(float(text.rpartition(" ")[2]) if text[-1].isdigit() else 0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        if text.startswith("fail"):
            raise Overloaded("no")
        return ChatResponse([{"type": "text", "text": text}])


def scripted(**entry):
    services = Services(clock=VirtualClock())
    return Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted", **entry}}}, services=services)


async def texts(stream):
    return [row.text async for row in stream]


async def read_into(seen, stream):
    async for row in stream:
        seen.append(row.text)


def test_results_come_as_they_are_there():
    """The quickest first, each with its place and its row."""

    async def main():
        results = [row async for row in Echo().map(["a 3", "b 1", "c 2"])]
        assert [(row.index, row.row, row.text) for row in results] == [
            *((1, "b 1", "b 1"), (2, "c 2", "c 2"), (0, "a 3", "a 3"))
        ]

    run_virtual(main())


def test_results_come_in_order_if_asked_for():
    """A quick row waits for a slow one before it."""

    async def main():
        assert await texts(Echo().map(["a 3", "b 1", "c 2"], ordered=True)) == ["a 3", "b 1", "c 2"]

    run_virtual(main())


@pytest.mark.parametrize("ordered", [False, True])
def test_a_bounded_number_of_calls_is_under_way(ordered):
    """As many as the concurrency allows, and no more."""

    async def main():
        model = Echo()
        rows = [f"{number} {number % 5 + 1}" for number in range(100)]
        assert sorted(await texts(model.map(rows, concurrency=7, ordered=ordered))) == sorted(rows)
        assert model.most == 7

    run_virtual(main())


def test_a_slow_row_does_not_stop_an_ordered_job_at_once():
    """Rows behind it are asked meanwhile, up to four times the concurrency."""

    async def main():
        model = Echo()
        stream = model.map(["first 100", *(f"{number} 1" for number in range(100))], concurrency=5, ordered=True)
        await anext(stream)
        assert len(model.requests) == 20

    run_virtual(main())


def test_no_row_is_read_before_it_is_needed():
    """Nothing before the first result is asked for, and no more than fit while results wait to be taken."""

    async def main():
        read = []

        def rows():
            for number in range(1000):
                read.append(number)
                yield f"{number} 1"

        stream = Echo().map(rows(), concurrency=4)
        await asyncio.sleep(10)
        assert read == []
        await anext(stream)
        await asyncio.sleep(10)
        assert len(read) == 4 + 1
        await stream.aclose()

    run_virtual(main())


def test_rows_may_come_from_an_async_iterable():
    """It is waited for, while calls are under way."""

    async def main():
        async def rows():
            for number in range(5):
                await asyncio.sleep(10)
                yield f"{number} 5"

        began = asyncio.get_running_loop().time()
        assert await texts(Echo().map(rows(), concurrency=2)) == [f"{number} 5" for number in range(5)]
        assert asyncio.get_running_loop().time() - began == 55

    run_virtual(main())


def test_a_failed_row_is_a_result_with_an_error():
    """It stops nobody."""

    async def main():
        results = [row async for row in Echo().map(["a", "fail", "c"], ordered=True)]
        assert [type(row.error) for row in results] == [type(None), Overloaded, type(None)]
        assert [row.text for row in results] == ["a", None, "c"]

    run_virtual(main())


def test_a_row_that_cannot_be_sent_is_a_result_with_an_error():
    """Its error says what is missing, and nothing is sent for it."""

    async def main():
        model = Echo()
        rows = [{"text": "a"}, {"title": "b"}, 7, {"text": None}]
        results = [row async for row in model.map(rows, prompt="Say {text}", ordered=True)]
        assert [str(row.error) for row in results[1:]] == [
            "the row has no column `text` (it has: title)",
            "the template needs a row with columns, not int",
            "column `text` of the row is empty (null)",
        ]
        assert [row.text for row in results] == ["Say a", None, None, None]
        assert len(model.requests) == 1

    run_virtual(main())


@table(
    ("row", "prompt", "expected"),
    [
        ("a", None, ["user: a"]),
        ([{"role": "user", "content": "a"}], None, ["user: a"]),
        ({"role": "user", "content": "a"}, None, ["user: a"]),
        ({"messages": [{"role": "user", "content": "a"}], "id": 7}, None, ["user: a"]),
        ({"prompt": "a", "id": 7}, None, ["user: a"]),
        ("a", "Say {text}.", ["user: Say a."]),
        ({"text": "a", "n": 7}, "Say {text} {n} times, {{literally}}.", ["user: Say a 7 times, {literally}."]),
        ({"user": {"name": "Jo"}, "tags": ["x"]}, "{user.name} {tags}", ['user: Jo ["x"]']),
        ({"user.name": "Jo"}, "{user.name}", ["user: Jo"]),
        ({"order id": 7}, "{ order id }", ["user: 7"]),
    ],
)
@table("system", [None, "Be brief."])
def test_a_row_is_messages_a_prompt_or_the_columns_of_a_template(row, prompt, system, expected):
    """With a system message before it, if there is one for all."""

    async def main():
        model = Echo()
        (result,) = [row async for row in model.map([row], prompt=prompt, system=system)]
        assert result.error is None
        sent = [f"{message.role}: {message.blocks[0].text}" for message in model.requests[0].messages]
        assert sent == ([] if system is None else [f"system: {system}"]) + expected

    run_virtual(main())


@table("template", ["Say it", "Say {", "Say }", "Say {}", 'Answer {"a": 1}: {text}'])
def test_a_template_that_cannot_be_filled_is_refused_at_once(template):
    """Before a row is read."""
    with pytest.raises(InvalidRequest, match="prompt: "):
        Echo().map(["a"], prompt=template)


@table(
    "arguments",
    [
        {"rows": "text"},
        {"rows": {"a": 1}},
        {"rows": 7},
        {"rows": [], "concurrency": 0},
        {"rows": [], "stream": True},
        {"rows": [], "deadlne": 5},
        {"rows": [], "deadline": "soon"},
        {"rows": [], "tags": "nightly"},
    ],
)
def test_what_is_wrong_in_every_row_is_refused_at_once(arguments):
    """Not as a million failed rows."""
    with pytest.raises(InvalidRequest):
        Echo().map(**arguments)


def test_keywords_and_tags_go_with_every_call():
    """As they would with a single one."""

    async def main():
        async with scripted(reply="a", stream=True) as hub:
            stream = hub.get("m").with_tags(job="nightly").map(["x", "y"], tags={"user": "7"})
            assert [type(row.reply) async for row in stream] == [ChatResponse, ChatResponse]
            assert hub.usage.by_tag["job"]["nightly"].calls == hub.usage.by_tag["user"]["7"].calls == 2
        model = Echo()
        await texts(model.map(["x"], temperature=0, seed=1))
        assert model.requests[0].options == {"temperature": 0, "seed": 1}

    run_virtual(main())


def test_a_deadline_counts_from_the_start_of_each_call():
    """Not from that of the job: rows far behind have as much time as the first."""

    async def main():
        async with scripted(steps=[{"say": "a", "wait": "3s"}]) as hub:
            results = [row async for row in hub.get("m").map(["x"] * 10, concurrency=1, deadline="5s")]
        assert [row.text for row in results] == ["a"] * 10

    run_virtual(main())


class Invoice(BaseModel):
    total: float


def test_each_row_has_its_structured_output():
    """An instance of the class; a misfit is a failed row."""

    async def main():
        steps = [{"data": {"total": 5}}, {"data": {"sum": 5}}]
        async with scripted(steps=steps, retry={"max_attempts": 1}) as hub:
            rows = [row async for row in hub.get("m").map(["x", "y"], structured_model=Invoice, concurrency=1)]
        assert [row.output for row in rows] == [Invoice(total=5), None]
        assert rows[1].error.kind == "BadReply"

    run_virtual(main())


def test_closing_cancels_what_is_under_way():
    """When it returns, nothing is under way any more; a later read gives nothing."""

    async def main():
        model = Echo()
        async with model.map((f"{n} {n + 1}" for n in range(100)), concurrency=5) as stream:
            assert (await anext(stream)).row == "0 1"
        assert (model.under_way, model.cancelled) == (0, 4)
        assert len(model.requests) == 5
        assert [row async for row in stream] == []
        await stream.aclose()

    run_virtual(main())


def test_a_stream_that_is_dropped_cancels_what_is_under_way():
    """A `break` is enough."""

    async def main():
        model = Echo()
        async for _ in model.map((f"{n} {n + 1}" for n in range(100)), concurrency=5):
            break
        await asyncio.sleep(0.5)
        assert (model.under_way, model.cancelled) == (0, 4)
        gc.collect()

    run_virtual(main())


def test_a_cancelled_read_loses_nothing():
    """The next read goes on where it stopped."""

    async def main():
        stream = Echo().map(["a 5", "b 6"])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 1)
        assert await texts(stream) == ["a 5", "b 6"]

    run_virtual(main())


def test_a_stopped_job_finishes_what_is_under_way():
    """No further row is read, also from an iterable that is being waited for."""

    async def main():
        async def rows():
            for number in range(3):
                yield f"{number} 5"
            await asyncio.sleep(1000)
            yield "late"

        stream = Echo().map(rows(), concurrency=5)
        asyncio.get_running_loop().call_later(1, stream.stop)
        assert sorted(await texts(stream)) == ["0 5", "1 5", "2 5"]
        assert asyncio.get_running_loop().time() == 5
        unstarted = Echo().map(["a"])
        unstarted.stop()
        assert await texts(unstarted) == []

    run_virtual(main())


def test_an_error_of_the_rows_ends_the_iteration():
    """After the results of the rows that were read before."""

    async def main():
        def rows():
            yield "a 1"
            yield "b 2"
            raise OSError("disk gone")

        seen = []
        with pytest.raises(OSError, match="disk gone"):
            await read_into(seen, Echo().map(rows()))
        assert seen == ["a 1", "b 2"]

    run_virtual(main())


def test_a_closed_hub_ends_the_iteration():
    """Rather than failing every row that is left."""

    async def main():
        hub = scripted(steps=[{"say": "a", "wait": "1s"}])
        read, seen = [], []

        def rows():
            for number in range(1000):
                read.append(number)
                yield "x"

        stream = hub.get("m").map(rows(), concurrency=2)
        seen = [(await anext(stream)).text, (await anext(stream)).text]
        await hub.aclose(grace=0)
        with pytest.raises(HubClosed):
            await read_into(seen, stream)
        assert seen == ["a", "a"]
        assert len(read) == 4

    run_virtual(main())


def test_a_task_that_is_cancelled_by_somebody_else_is_not_a_missing_row():
    """The iteration ends with an error that says so."""

    async def main():
        stream = Echo().map(["a 5"])
        read = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(1)
        (row,) = [task for task in asyncio.all_tasks() if task.get_coro().__name__ == "_ask_row"]
        row.cancel()
        with pytest.raises(RuntimeError, match="row 0 was cancelled"):
            await read

    run_virtual(main())


def test_the_progress_counts_rows_rate_time_left_and_cost():
    """While the job goes on, and at its end."""

    async def main():
        steps = [{"say": "one two", "wait": "2s"}, {"fail": "InvalidRequest", "wait": "2s"}, {"say": "one two"}]
        async with scripted(steps=steps, pricing={"input": 1_000_000, "output": 0}) as hub:
            stream = hub.get("m").map(["x y z"] * 4, concurrency=1)
            progress = stream.progress
            assert (progress.total, progress.done, progress.elapsed, progress.rate, progress.eta) == (4, 0, 0, 0, None)
            await anext(stream)
            assert (progress.done, progress.under_way, progress.rate, progress.eta) == (1, 0, 0.5, 6)
            assert progress.cost == Decimal(3)
            assert [row.error is None async for row in stream] == [False, True, True]
            assert (progress.answered, progress.failed, progress.read) == (3, 1, 4)
            assert (progress.cost, progress.unknown_costs, progress.elapsed) == (Decimal(9), 0, 4)
            assert (progress.input_tokens, progress.output_tokens) == (9, 6)

    run_virtual(main())


def test_a_cost_that_is_not_known_is_counted_as_such():
    """It is not nothing."""

    async def main():
        class Unpriced(Echo):
            async def send(self, request):
                context = request.context
                attempt = context.begin("m", "echo", "m")
                attempt["usage"] = ChatUsage(5, 5)
                return ChatResponse([{"type": "text", "text": "a"}], attempts=context.attempts)

        stream = Unpriced().map(["a", "b"])
        await texts(stream)
        assert (stream.progress.cost, stream.progress.unknown_costs) == (0, 2)

    run_virtual(main())


def test_the_same_in_code_without_an_event_loop():
    """A plain iterator, which may be closed early."""
    with scripted(reply="a") as hub:
        stream = hub.get("m").map(["x", "y", "z"]).sync()
        assert [(row.row, row.text) for row in stream] == [("x", "a"), ("y", "a"), ("z", "a")]
        assert stream.progress.answered == 3
        with hub.get("m").map(itertools.repeat("x")).sync() as endless:
            assert isinstance(next(endless), RowResult)
        assert next(endless, None) is None


def test_a_loop_that_is_running_is_told_of_the_async_form():
    """The sync form would block it."""

    async def main():
        async with scripted(reply="a") as hub:
            with pytest.raises(RuntimeError, match=r"async for row in model\.map"):
                next(hub.get("m").map(["x"]).sync())

    run_virtual(main())


def test_each_row_of_a_chain_falls_back_by_itself():
    """A row is a call like any other."""

    async def main():
        models = {
            "a": {"provider": "scripted", "steps": [{"fail": "UnsupportedFeature"}, {"say": "a"}]},
            "b": {"provider": "scripted", "reply": "b"},
        }
        config = {"version": 1, "models": models, "chains": {"c": {"models": ["a", "b"]}}}
        async with Hub.from_dict(config, services=Services(clock=VirtualClock())) as hub:
            rows = [row async for row in hub.get("c").map(["x", "y"], concurrency=1)]
        assert [row.text for row in rows] == ["b", "a"]
        assert rows[0].attempts[0].outcome == UnsupportedFeature.__name__

    run_virtual(main())


def test_a_job_costs_no_more_memory_the_longer_it_is():
    """What is done is forgotten: as many objects live after many rows as after a few."""

    async def main():
        async with scripted(reply="a") as hub:
            stream = hub.get("m").map("x" for _ in range(1200))
            counts = []
            async for row in stream:  # the usage of up to 1024 rows is kept, until their costs are worked out together
                if row.index in (100, 1124):
                    del row
                    counts.append(len(gc.get_objects()))
        assert counts[1] - counts[0] < 200

    gc.collect()
    run_virtual(main())
