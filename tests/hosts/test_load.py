"""FastAPI on uvloop under load: browsers that leave and browsers that stall take nothing from the others.

MODELHUB_LONG=1 sends six thousand requests.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx

SERVER = Path(__file__).with_name("load_server.py")
REQUESTS = 6000 if os.environ.get("MODELHUB_LONG") else 1000
AT_ONCE, STALLED = 200, 20
LENGTH = 24 * 8192 + 23
MAX_GROWTH = 20 * REQUESTS // 2  # objects over the second half of the requests; a call that is kept is more


@contextlib.contextmanager
def server(ledger):
    """The port of a server, whose Python makes errors of warnings; it must end well and say nothing on stderr."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", SERVER, ledger],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) in [(0, ""), (-signal.SIGTERM, "")]
    finally:
        process.kill()
        process.communicate()


class Browser:
    """A connection to the server with a small buffer."""

    async def open(self, port, deadline):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.connect(("127.0.0.1", port))
        self.reader, self.writer = await asyncio.open_connection(sock=connection)
        self.writer.write(f"GET /?deadline={deadline} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        return self

    async def read(self):
        """The length of the text in the chunks of the answer."""
        head, _, body = (await self.reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return body.count(b"x") + body.count(b" ")

    async def read_a_little(self):
        await self.reader.read(100)
        self.writer.transport.pause_reading()

    def leave(self):
        self.writer.transport.abort()


async def browse(port, numbers):
    """Of all browsers each fifth leaves after the first bytes, some stall, and the others get all of the answer."""
    gate, stalled = asyncio.Semaphore(AT_ONCE), []

    async def visit(number):
        async with gate:
            if number % (REQUESTS // STALLED) == 1:
                stalled.append(await Browser().open(port, deadline=3))
                return await stalled[-1].read_a_little()
            browser = await Browser().open(port, deadline=300)
            length = await (browser.read() if number % 5 else browser.read_a_little())
            browser.leave()
            return length

    lengths = await asyncio.gather(*map(visit, numbers))
    assert {length for length in lengths if length is not None} == {LENGTH}
    assert lengths.count(None) == len(numbers) // 5 + len(stalled)
    return stalled


async def ask(port, path):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        return (await client.get(path)).json()


async def wait_for_state(port, expected):
    """Wait until the server says *expected*; gives what it said last."""
    for _ in range(300):
        state = await ask(port, "/state")
        if state == expected:
            break
        await asyncio.sleep(0.1)
    return state


def test_no_place_is_held_and_every_call_is_recorded_once(tmp_path):
    """A thousand requests, two hundred at once, of which a fifth leave early and twenty never read on."""

    async def main(port):
        states, objects = [], []
        for numbers in (range(REQUESTS // 2), range(REQUESTS // 2, REQUESTS)):
            stalled = await browse(port, numbers)
            states.append(await wait_for_state(port, {"recorded": numbers.stop, "places taken": 0}))
            for browser in stalled:
                browser.leave()
            await asyncio.sleep(1)  # the server notices
            objects.append(await ask(port, "/objects"))
        return states[-1], objects[1] - objects[0]

    done = {"recorded": REQUESTS, "places taken": 0}
    with server(tmp_path / "usage.db") as port:
        state, growth = asyncio.run(main(port))
        assert state == done
        assert growth < MAX_GROWTH
    with contextlib.closing(sqlite3.connect(tmp_path / "usage.db")) as ledger:
        (ids,) = ledger.execute("SELECT count(DISTINCT call_id) FROM calls").fetchone()
        outcomes = dict(ledger.execute("SELECT outcome || coalesce(error, ''), count(*) FROM calls GROUP BY 1"))
    left = outcomes.pop("closed") + outcomes.pop("cancelledCancelledError", 0)  # the latter in the queue of the limit
    assert left == REQUESTS // 5
    assert outcomes == {"complete": REQUESTS - REQUESTS // 5 - STALLED, "failedDeadlineExceeded": STALLED}
    assert ids == REQUESTS
