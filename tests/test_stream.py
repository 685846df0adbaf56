"""Streams of snapshots: what a reader may rely on, and the one way to hear that a reply is finished."""

import asyncio
import contextlib
import gc
import logging
import threading
import warnings
from contextlib import aclosing

import pytest

from modelhub import ChatResponse, ChatStream
from modelhub.core.errors import BadReply, StreamBroken
from modelhub.core.stream import Outcome, add_done_callback
from modelhub.providers.scripted import ScriptedChatModel
from modelhub.testing import VirtualLoop, run_virtual


def snapshot(text, *, last=False):
    """An answer so far."""
    return ChatResponse([{"type": "text", "text": text}], is_last=last)


async def words(*texts, error=None, closed=None):
    """Snapshots that grow by a word; then a failure, or the end."""
    try:
        for number, _ in enumerate(texts):
            yield snapshot(" ".join(texts[: number + 1]), last=error is None and number == len(texts) - 1)
        if error is not None:
            raise error
    finally:
        if closed is not None:
            closed.append(True)


def heard(stream, name="it", into=None):
    """How *stream* was finished, each time anybody says so."""
    found = [] if into is None else into
    add_done_callback(stream, lambda outcome: found.append((name, outcome.how)))
    return found


async def test_it_is_iterated_like_any_generator():
    """Every snapshot, the first one too, once."""
    stream = await ChatStream.open(words("one", "two"))
    assert [item.text async for item in stream] == ["one", "one two"]
    assert [item async for item in stream] == []


async def test_final_is_the_complete_answer():
    """From the beginning, from the middle, and again."""
    stream = await ChatStream.open(words("one", "two", "three"))
    await anext(stream)
    assert (await stream.final()).text == "one two three"
    assert (await stream.final()).text == "one two three"


async def test_opening_is_the_commit():
    """A failure before the first content comes out of the await; so does emptiness."""
    with pytest.raises(ConnectionError):
        await ChatStream.open(words(error=ConnectionError("gone")))
    with pytest.raises(BadReply, match="ended before any content"):
        await ChatStream.open(words())


async def test_settled_once_when_it_is_complete():
    """With its last snapshot, which need not be asked for twice."""
    stream = await ChatStream.open(words("one", "two"))
    found = heard(stream)
    await anext(stream)
    assert (found, stream.settled) == ([], None)
    await anext(stream)
    assert found == [("it", "complete")]
    assert [item async for item in stream] == []
    await stream.aclose()
    assert found == [("it", "complete")]
    assert stream.settled.reply.text == "one two"


async def test_settled_once_when_it_fails():
    """With the error, and the last that was seen."""
    stream = await ChatStream.open(words("one", error=StreamBroken("cut")))
    found = heard(stream)
    with pytest.raises(StreamBroken):
        await stream.final()
    await stream.aclose()
    assert found == [("it", "failed")]
    assert (stream.settled.reply.text, stream.settled.error.kind) == ("one", "StreamBroken")


async def test_settled_once_when_it_is_closed():
    """And what it reads from is closed too; closing twice is fine."""
    closed = []
    stream = await ChatStream.open(words("one", "two", closed=closed))
    found = heard(stream)
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert (found, closed) == ([("it", "closed")], [True])


async def test_leaving_the_with_block_closes_it():
    """However it is left."""
    stream = await ChatStream.open(words("one", "two"))
    found = heard(stream)
    with contextlib.suppress(KeyError):
        async with stream:
            await anext(stream)
            raise KeyError("on purpose")
    assert found == [("it", "closed")]


async def test_settled_once_when_its_reader_is_cancelled():
    """The cancellation goes on, untouched; the stream ends with the task that read it, for nobody else can read on."""

    async def endless():
        yield snapshot("one")
        await asyncio.Event().wait()

    found = []

    async def read():
        stream = await ChatStream.open(endless())
        heard(stream, into=found)
        await stream.final()

    reader = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    for _ in range(2):
        await asyncio.sleep(0)  # asyncio holds the task's frames for one more turn of the loop
    assert found == [("it", "cancelled")]


async def test_settled_once_when_it_is_forgotten():
    """With a warning, as for a file that was never closed."""
    stream = await ChatStream.open(words("one", "two"))
    found = heard(stream)
    with pytest.warns(ResourceWarning, match="never read to its end nor closed"):
        del stream
        gc.collect()
    assert found == []  # callbacks run on the loop, not in the garbage collector
    await asyncio.sleep(0)
    assert found == [("it", "abandoned")]


async def test_forgotten_in_another_thread_it_is_settled_in_its_own():
    """Callbacks touch what belongs to the loop."""
    stream, threads = [await ChatStream.open(words("one", "two"))], []
    add_done_callback(stream[0], lambda _: threads.append(threading.get_ident()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        thread = threading.Thread(target=stream.clear)
        thread.start()
        thread.join()
    await asyncio.sleep(0)
    assert threads == [threading.get_ident()]


def test_forgotten_after_its_loop_ended_it_is_settled():
    """A permit is given back even then, as soon as somebody makes a call or looks at what is left."""

    async def main():
        return await ChatStream.open(words("one", "two"))

    stream = asyncio.run(main())
    found = heard(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del stream
        gc.collect()
    assert found == []
    asyncio.run(ScriptedChatModel(reply="fine")("hi"))
    assert found == [("it", "abandoned")]


def test_left_with_its_loop_after_a_cancelled_read_it_is_closed_in_order(caplog):
    """The read is ended before the loop closes its generators: none of them is still running then."""
    closed = []

    async def silent():
        try:
            await asyncio.Event().wait()
            yield
        finally:
            closed.append(True)

    async def endless():
        yield snapshot("one")
        async for _ in silent():
            yield snapshot("one two")

    async def main():
        stream = await ChatStream.open(endless())
        await anext(stream)
        read = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        read.cancel()
        await asyncio.wait([read])

    asyncio.run(main())
    gc.collect()
    assert closed == [True]
    assert not caplog.records


readers = set()


async def leave_after_a_cancelled_read(stream):
    read = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    read.cancel()
    await asyncio.wait([read])


async def leave_a_task_that_reads(stream):
    readers.add(asyncio.ensure_future(stream.final()))
    await asyncio.sleep(0)


async def be_cancelled_while_reading(stream):
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
    await stream.final()


@pytest.mark.parametrize("leave", [leave_after_a_cancelled_read, leave_a_task_that_reads, be_cancelled_while_reading])
def test_still_held_when_its_loop_ends_it_is_cancelled_in_order(leave, caplog):
    """Its generators clean up, nothing is reported, the end is told once, and whoever reads on hears of it."""
    events = []

    async def silent():
        try:
            yield snapshot("one")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("closed")

    async def again(snapshots):
        async with aclosing(snapshots):
            async for each in snapshots:
                yield each

    async def main():
        inner = await ChatStream.open(again(silent()))
        stream = ChatStream(again(inner), inner=inner)
        held.append(stream)
        heard(stream, into=events)
        await anext(stream)
        await leave(stream)

    held = []
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
    gc.collect()
    assert sorted(map(str, events)) == ["('it', 'cancelled')", "closed"]
    assert not caplog.records
    with pytest.raises(StreamBroken, match="cancelled"):
        asyncio.run(anext(held[0]))


def test_a_loop_that_is_closed_without_ending_its_tasks_is_no_complaint(caplog):
    """What would have closed the stream with its loop is collected in silence."""

    async def endless():
        yield snapshot("one")
        await asyncio.Event().wait()

    async def main():
        stream = await ChatStream.open(endless())
        await anext(stream)
        await leave_after_a_cancelled_read(stream)
        return stream

    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(main())
    loop.close()
    found = heard(stream)
    del stream
    gc.collect()
    asyncio.run(ScriptedChatModel(reply="fine")("hi"))
    assert found == [("it", "cancelled")]
    assert not caplog.records


def test_a_stream_is_read_on_another_loop_than_it_was_opened_on():
    """Where nothing of it belongs to the first loop, a read waits on the loop that it is made on."""

    async def slow_words():
        for text in ("one", "one two", "one two three"):
            await asyncio.sleep(0.001)
            yield snapshot(text, last=text.endswith("three"))

    async def read():
        return (await anext(stream)).text

    first, second = VirtualLoop(grace=0), VirtualLoop(grace=0)
    with contextlib.closing(first), contextlib.closing(second):
        stream = first.run_until_complete(ChatStream.open(slow_words()))
        texts = [loop.run_until_complete(read()) for loop in (second, second, first)]
    assert texts == ["one", "one two", "one two three"]


async def test_a_stream_read_to_its_end_is_no_warning():
    """Nor one that was closed, or failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await (await ChatStream.open(words("one"))).final()
        await (await ChatStream.open(words("one", "two"))).aclose()
        gc.collect()


async def test_inner_streams_hear_of_it_first():
    """A permit is given back before the call is over."""
    inner = await ChatStream.open(words("one", "two"))
    outer = ChatStream(again(inner), inner=inner)
    order = heard(inner, "inner")
    heard(outer, "outer", order)
    heard(outer, "outermost", order)
    await anext(outer)
    await outer.aclose()
    assert order == [("inner", "closed"), ("outer", "closed"), ("outermost", "closed")]


async def again(stream):
    """The same snapshots."""
    async for item in stream:
        yield item


async def test_a_callback_that_fails_keeps_nobody_from_hearing(caplog):
    """It is logged."""
    stream = await ChatStream.open(words("one"))
    add_done_callback(stream, lambda _: 1 / 0)
    found = heard(stream)
    with caplog.at_level(logging.ERROR, "modelhub"):
        await stream.final()
    assert found == [("it", "complete")]
    assert "a callback failed" in caplog.text


async def test_a_late_listener_hears_at_once():
    """For a stream that is settled, and for a whole reply."""
    stream = await ChatStream.open(words("one"))
    await stream.final()
    assert heard(stream) == [("it", "complete")]
    outcomes = []
    reply = snapshot("one", last=True)
    add_done_callback(reply, outcomes.append)
    assert outcomes == [Outcome("complete", reply)]


async def test_it_is_an_async_generator():
    """`asend` gives the next snapshot, `athrow` closes and raises."""
    stream = await ChatStream.open(words("one", "two"))
    found = heard(stream)
    assert (await stream.asend(None)).text == "one"
    with pytest.raises(ValueError, match="on purpose"):
        await stream.athrow(ValueError("on purpose"))
    assert found == [("it", "closed")]
    with pytest.raises(KeyError):
        await (await ChatStream.open(words("one"))).athrow(KeyError)


async def test_its_repr_says_how_it_is():
    """Open, or how it ended."""
    stream = await ChatStream.open(words("one"))
    assert repr(stream) == "<ChatStream open>"
    await stream.final()
    assert repr(stream) == "<ChatStream complete>"


async def test_each_snapshot_is_the_whole_answer_so_far():
    """`delta` is what is new, and all deltas are the answer."""
    stream = await ScriptedChatModel(reply="one two three")("hi", stream=True)
    seen = [item async for item in stream]
    assert [item.text for item in seen] == ["one", "one two", "one two three", "one two three"]
    assert "".join(item.delta for item in seen) == seen[-1].text
    assert [item.is_last for item in seen] == [False, False, False, True]
    whole = await ScriptedChatModel(reply="one two three")("hi")
    assert (seen[-1].content, seen[-1].finish_reason) == (whole.content, whole.finish_reason)


async def test_snapshots_do_not_change_after_they_were_given():
    """Who keeps them all has them all."""
    stream = await ScriptedChatModel(reply="one two three")("hi", stream=True)
    kept = [item async for item in stream]
    assert [item.content[0]["text"] for item in reversed(kept)] == ["one two three", "one two three", "one two", "one"]


def test_a_slow_reader_gets_everything():
    """Nothing is dropped and nothing runs ahead."""

    async def main():
        model = ScriptedChatModel(steps=[{"say": "one two three", "pause": 1}])
        found = []
        async for item in await model("hi", stream=True):
            found.append(item.delta)
            await asyncio.sleep(60)
        return found

    assert run_virtual(main()) == ["one", " two", " three", ""]


async def test_a_closed_stream_gives_nothing_more():
    """After `aclose` there is no snapshot left, and half an answer is not passed off as a whole one."""
    stream = await ScriptedChatModel(reply="one two three")("x", stream=True)
    await anext(stream)
    await stream.aclose()
    assert [snapshot async for snapshot in stream] == []
    with pytest.raises(BadReply, match="closed before it was read to its end"):
        await stream.final()


async def test_a_failure_that_is_waited_for_is_the_generators():
    """What a generator awaits fails within it, where it can be told what it means, not in the stream's reader."""
    answered = asyncio.get_running_loop().create_future()

    async def snapshots():
        yield ChatResponse([{"type": "text", "text": "one"}], is_last=False)
        try:
            await answered
        except ConnectionError:
            yield ChatResponse([{"type": "text", "text": "one two"}])

    stream = await ChatStream.open(snapshots())
    assert (await anext(stream)).text == "one"
    asyncio.get_running_loop().call_soon(answered.set_exception, ConnectionError("gone"))
    assert (await anext(stream)).text == "one two"
    await stream.aclose()
