"""Virtual time."""

import asyncio
import time

import pytest

from modelhub.testing import VirtualClock, run_virtual


def test_hours_pass_in_no_time():
    """Whoever sleeps wakes at the right hour, in the right order."""

    async def main():
        clock, woken = VirtualClock(), []

        async def sleeper(seconds):
            await clock.sleep(seconds)
            woken.append((clock.now(), clock.wall().hour))

        await asyncio.gather(*(sleeper(hours * 3600) for hours in (3, 1, 2)))
        return woken

    began = time.monotonic()
    assert run_virtual(main()) == [(3600, 1), (7200, 2), (10800, 3)]
    assert time.monotonic() - began < 2


def test_time_stands_still_while_a_thread_works():
    """A thread's work is not in virtual time: no timeout comes over it because the loop has nothing else to do."""

    async def main():
        async with asyncio.timeout(10):
            await asyncio.to_thread(time.sleep, 0.05)
            looked_up = await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        return asyncio.get_running_loop().time(), bool(looked_up)

    assert run_virtual(main()) == (0, True)


def test_time_passes_again_when_the_thread_is_done():
    """A thread that fails, or that nobody waits for any more, holds nothing up."""

    async def main():
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.to_thread(time.sleep, 0.01)
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 3600
