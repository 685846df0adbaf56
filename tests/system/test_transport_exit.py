"""A process may end with its transport open."""

import subprocess
import sys


def run_unclosed(last_lines):
    """Run a process that closes neither its loop nor its transport, and ends with *last_lines*; return what it said."""
    code = f"""
import asyncio, atexit, gc, os, threading, warnings
from tests.providers.http.loopback import OK, Server, reply, request_to
from modelhub.providers.http.aiohttp_transport import AiohttpTransport

loop, transport = asyncio.new_event_loop(), AiohttpTransport()

async def call():
    async with Server(reply(OK)).running() as server:
        print((await (await transport.send(request_to(server.url))).read()).decode(), flush=True)

def call_in_thread():
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(call(), loop).result(10)

{last_lines}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.split(), done.stderr, done.returncode


def test_a_process_that_ends_without_closing_says_nothing_and_can_call_to_the_last():
    """A script leaves its loop as it is, and one more call is made by a handler that was there before the first."""
    lines = "atexit.register(lambda: loop.run_until_complete(call())); loop.run_until_complete(call())"
    assert run_unclosed(lines) == (["ok", "ok"], "", 0)


def test_a_process_that_ends_amid_a_body_says_nothing():
    """The loop was closed, but not shut down, and a generator is still reading."""
    lines = """
async def read_chunks():
    async with Server(reply(OK[:-1])).running() as server:
        response = await transport.send(request_to(server.url))
        chunks = response.aiter_bytes()
        print((await anext(chunks)).decode())
        return transport, response, chunks

kept = loop.run_until_complete(read_chunks())
loop.close()
"""
    assert run_unclosed(lines) == (["o"], "", 0)


def test_a_process_that_ends_beside_a_running_loop_says_nothing_nor_does_its_forked_child():
    """The loop runs in a thread of its own; in the child it stands still, for ever running."""
    lines = """
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of forks beside threads
call_in_thread()
child = os.fork()
if child:
    print("child:", os.waitpid(child, 0)[1])
else:
    del transport
    gc.collect()
"""
    assert run_unclosed(lines) == (["ok", "child:", "0"], "", 0)
