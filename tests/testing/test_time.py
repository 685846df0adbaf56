"""Virtual time: hours in milliseconds, and sockets and threads are waited for all the same."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from modelhub.testing import VirtualClock, VirtualLoop, run_virtual
from modelhub.testing import time as module


def test_hours_pass_in_milliseconds():
    """A sleep moves the loop's time, exactly, and hardly any real time."""

    async def main():
        began = asyncio.get_running_loop().time()
        for _ in range(24):
            await asyncio.sleep(3600)
        return began, asyncio.get_running_loop().time()

    began = time.perf_counter()
    assert run_virtual(main()) == (0, 24 * 3600)
    assert time.perf_counter() - began < 60


def test_sleepers_wake_in_their_order():
    """Whatever the order in which they lay down; at the same instant, first come first served."""
    woken = []

    async def sleeper(name, seconds):
        await asyncio.sleep(seconds)
        woken.append((name, asyncio.get_running_loop().time()))

    async def main():
        await asyncio.gather(sleeper("c", 30), sleeper("a", 10), sleeper("b", 20), sleeper("d", 30))

    run_virtual(main())
    assert woken == [("a", 10), ("b", 20), ("c", 30), ("d", 30)]


def test_timeouts_are_in_virtual_time():
    """`asyncio.timeout` and `wait_for` see the same clock."""

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.sleep(601)
        return await asyncio.wait_for(asyncio.sleep(59, "done"), 60)

    assert run_virtual(main()) == "done"


def test_the_clock_follows_the_loop():
    """`now`, the calendar and `sleep` agree; after the loop's end the clock stands still."""
    clock = VirtualClock(datetime(2030, 5, 1, tzinfo=UTC))

    async def main():
        await clock.sleep(90)
        return clock.now(), clock.wall()

    assert run_virtual(main()) == (90, datetime(2030, 5, 1, 0, 1, 30, tzinfo=UTC))
    assert clock.now() == 90


def test_sockets_are_served_before_time_moves():
    """A server on loopback answers at once, though somebody sleeps for an hour."""

    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        sleeper = asyncio.ensure_future(asyncio.sleep(3600))
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"hello\n")
        line = await reader.readline()
        took = asyncio.get_running_loop().time()
        writer.close()
        server.close()
        sleeper.cancel()
        return line, took

    line, took = run_virtual(main())
    assert line == b"hello\n"
    assert took < 3600


def test_a_thread_at_work_stops_time():
    """An hour does not pass while a file is read."""

    async def main():
        sleeper = asyncio.ensure_future(asyncio.sleep(3600))
        await asyncio.to_thread(time.sleep, 0.05)
        took = asyncio.get_running_loop().time()
        sleeper.cancel()
        return took

    assert run_virtual(main()) == 0


def test_time_stands_still_while_threads_are_joined():
    """The limit that asyncio sets for it is one of real time."""

    class SlowExecutor(ThreadPoolExecutor):
        def shutdown(self, *args, **kwargs):
            time.sleep(0.05)
            super().shutdown(*args, **kwargs)

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(SlowExecutor())
        return loop

    assert run_virtual(main()).time() == 0


def test_a_callback_from_a_thread_is_heard():
    """Also when no timer is set."""

    async def main():
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        threading.Timer(0.02, lambda: loop.call_soon_threadsafe(event.set)).start()
        await event.wait()
        return loop.time()

    assert run_virtual(main()) == 0


def test_a_deadlock_is_an_error_and_no_hang(monkeypatch):
    """Everybody waits and nobody can come: said after a while of real time."""
    monkeypatch.setattr(module, "DEADLOCK_TIMEOUT", 0.05)

    async def main():
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="every task waits, no timer is set"):
        run_virtual(main())


def test_an_exception_comes_out_and_tasks_are_ended():
    """As with `asyncio.run`."""
    ended = []

    async def forever():
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append(True)

    async def main():
        task = asyncio.ensure_future(forever())
        await asyncio.sleep(1)
        raise ValueError(f"on purpose, with {task.get_name()} running")

    with pytest.raises(ValueError, match="on purpose"):
        run_virtual(main())
    assert ended == [True]


def test_each_run_begins_at_nought():
    """Two loops have two times."""

    async def main():
        await asyncio.sleep(5)
        return asyncio.get_running_loop().time()

    assert [run_virtual(main()) for _ in range(2)] == [5, 5]


def test_the_loop_is_a_loop():
    """It can be had alone, and closed."""
    loop = VirtualLoop(grace=0)
    try:
        assert loop.run_until_complete(asyncio.sleep(7, "slept")) == "slept"
        assert loop.time() == 7
    finally:
        loop.close()
