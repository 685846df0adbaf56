"""Commands as processes of their own, without the time that Python takes to load them.

One process loads the command line and forks a copy of itself for each command. The copy has its own standard streams,
environment, working directory and signals, and ends as every interpreter does. `python forked.py FD` is that process.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

PRELOADED = (
    *("modelhub.cli.chat.conversation", "modelhub.cli.chat.session", "modelhub.cli.plan_view"),
    *("modelhub.cli.model_status", "modelhub.jobs.batch_job", "modelhub.providers.scripted", "rich.progress"),
)
STREAMS = ("stdin", "stdout", "stderr")


class ForkedCommand:
    """What `subprocess.Popen` has, as far as tests use it: streams, signals, and the exit status."""

    def __init__(self, pid: int, status: int, pipes: dict[str, BinaryIO]) -> None:
        self.pid, self.returncode, self._status = pid, None, status
        self.stdin, self.stdout, self.stderr = map(pipes.get, STREAMS)

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status at the end of the process, which is killed after *timeout* seconds."""
        if self.returncode is None:
            with self._limit(timeout):
                self.returncode = int(os.read(self._status, 16))
            os.close(self._status)
        return self.returncode

    def communicate(self, data: bytes = b"", timeout: float | None = None) -> tuple[bytes | None, bytes | None]:
        """Write *data*, and return what is written to the pipes until the process ends."""
        with self._limit(timeout):
            if self.stdin is not None:
                self.stdin.write(data)
                self.stdin.close()
            stdout, stderr = (None if pipe is None else pipe.read() for pipe in (self.stdout, self.stderr))
        self.wait(timeout)
        self.close()
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        """Send a signal to the process if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def close(self) -> None:
        """Kill the process if it still runs, and close its pipes."""
        self.send_signal(signal.SIGKILL)
        self.wait()
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    @contextlib.contextmanager
    def _limit(self, seconds: float | None):
        timer = threading.Timer(seconds or 60, os.kill, (self.pid, signal.SIGKILL))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


class CommandForker:
    """The process that forks commands, as its caller sees it."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=Path(__file__).parents[1])

    def start(self, *arguments: str, cwd: Path, env: dict[str, str], **streams: Any) -> ForkedCommand:
        """Start `modelhub` with *arguments*; *streams* are what `subprocess.Popen` takes."""
        pipes: dict[str, BinaryIO] = {}
        status, their_status = os.pipe()
        theirs = [their_status]
        for name in STREAMS:
            target = streams[name]
            if target == subprocess.DEVNULL:
                theirs.append(os.open(os.devnull, os.O_RDWR))
            elif target == subprocess.PIPE:
                reading, writing = os.pipe()
                theirs.append(reading if name == "stdin" else writing)
                pipes[name] = os.fdopen(writing, "wb") if name == "stdin" else os.fdopen(reading, "rb")
            else:
                theirs.append(os.dup(target if isinstance(target, int) else target.fileno()))
        socket.send_fds(self._requests, [b"."], theirs)
        for descriptor in theirs:
            os.close(descriptor)
        self._requests.sendall(json.dumps({"argv": arguments, "cwd": str(cwd), "env": env}).encode() + b"\n")
        return ForkedCommand(int(self._requests.recv(16)), status, pipes)

    def close(self) -> None:
        """Close the socket, at which the process ends, and wait for that."""
        self._requests.close()
        self._process.wait()


def _serve(requests: socket.socket) -> None:
    """Fork for each request, and return in the copy that is to be the command."""
    from typer.testing import CliRunner

    from modelhub.cli.application import app
    from modelhub.config.load import load_text

    for name in PRELOADED:
        __import__(name)
    CliRunner().invoke(app, ["list", "--help"])  # what these two make is kept for the next time
    load_text("version: 1\nmodels: {m: {provider: scripted}}", environ={})
    gc.collect()
    gc.freeze()
    lines = requests.makefile("r", encoding="utf-8")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        marker, descriptors, _, _ = socket.recv_fds(requests, 1, 4)
        if not marker:
            sys.exit()
        request = json.loads(lines.readline())
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _supervise(requests, request["env"].get("PYTHONIOENCODING", "utf-8"), *descriptors)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["modelhub", *request["argv"]]


def _supervise(requests: socket.socket, encoding: str, status: int, *streams: int) -> None:
    """Fork once more, and return in the child, with its streams; the parent waits for it and reports its status."""
    pid = os.fork()
    if pid:
        for descriptor in streams:
            os.close(descriptor)
        requests.sendall(str(pid).encode())
        os.write(status, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
        os._exit(0)
    os.close(requests.detach())
    os.close(status)
    for number, (name, descriptor) in enumerate(zip(STREAMS, streams, strict=True)):
        os.dup2(descriptor, number)
        os.close(descriptor)
        mode = "w" if number else "r"
        buffering = 1 if os.isatty(number) else -1
        stream = os.fdopen(number, mode, buffering, encoding=encoding, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from modelhub.cli import main

    main()
