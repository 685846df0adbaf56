"""Starts the examples for real, on loopback, and ends them."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "hosts"
BIN = Path(sys.executable).parent


class Recipes:
    """The examples, with a ledger in *folder*."""

    examples = EXAMPLES

    def __init__(self, folder):
        self.folder = folder
        self.ledger = folder / "usage.db"
        self.environ = {
            **os.environ,
            "USAGE_LEDGER": str(self.ledger),
            "MODELHUB_CONFIG": str(EXAMPLES / "models.yaml"),
        }

    def outcomes(self):
        """How each recorded call was finished."""
        with contextlib.closing(sqlite3.connect(self.ledger)) as connection:
            return [row[0] for row in connection.execute("SELECT outcome FROM calls")]

    def run(self, *command, timeout=60):
        """What a script prints. It must end well and say nothing on stderr."""
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", *command],
            cwd=EXAMPLES, env=self.environ, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    @contextlib.contextmanager
    def server(self, *command):
        """The address of a web server, once it answers; it is ended as an administrator does it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        log = (self.folder / "server.log").open("w+")
        words = [word.replace("PORT", str(port)) for word in command]
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=EXAMPLES, env=self.environ, stdout=log, stderr=log
        )
        try:
            wait_until(lambda: answers(url) or process.poll() is not None)
            assert process.poll() is None, log.seek(0) or log.read()
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            log.seek(0)
            self.log = log.read()
            log.close()


def answers(url):
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/ask", params={"text": "are you there"}).status_code == 200
    return False


def wait_until(condition, seconds=40):
    """Wait until *condition* holds: other processes tell nobody."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


@pytest.fixture
def recipes(tmp_path):
    return Recipes(tmp_path)
