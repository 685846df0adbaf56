"""Ledgers in SQLite and in a real PostgreSQL, for tests that hold for both."""

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from contextlib import closing

import pytest

from benchmarks.postgres import PostgresServer, UnavailableError
from tests.system.ledger.tcp_forwarder import TcpForwarder


@pytest.fixture(name="postgres", scope="session")
def _postgres(tmp_path_factory):
    """The URL of a database of this process, on a server that all workers of a run share."""
    folder = tmp_path_factory.getbasetemp()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    if worker != "main":
        folder = folder.parent
    with share_server(folder) as url:
        import psycopg

        with psycopg.connect(url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {worker}")
        yield url(worker)


@contextlib.contextmanager
def share_server(folder):
    """Start a server, or use the one that another worker has started in this run; who started it stops it last."""
    state, users = folder / "postgres.json", (folder / "postgres.users").open("a")
    server = None
    with (folder / "postgres.lock").open("a") as lock, users:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not state.exists():
            server = start_server()
            state.write_text(json.dumps(server.url("DATABASE")), encoding="utf-8")
        pattern = json.loads(state.read_text(encoding="utf-8"))
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(lock, fcntl.LOCK_UN)
        try:
            yield lambda database: pattern.replace("DATABASE", database)
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            if server is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
                state.unlink()
                fcntl.flock(lock, fcntl.LOCK_UN)
                fcntl.flock(users, fcntl.LOCK_EX)  # the other workers need it no more
                server.close()


def start_server():
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed: no ledger in PostgreSQL is tested")
    try:
        return PostgresServer("fsync=off")
    except UnavailableError as error:
        pytest.skip(f"no ledger in PostgreSQL is tested: {error}")


class SqliteLedger:
    """A file, which is away while its folder is."""

    kind = "sqlite"

    def __init__(self, folder):
        self.folder = folder / "ledger"
        self.folder.mkdir()
        self.url = str(self.folder / "usage.db")

    def rows(self, query, *values):
        with closing(sqlite3.connect(self.url)) as connection:
            return connection.execute(query, values).fetchall()

    def go_away(self):
        self.folder.rename(self.folder.with_name("away"))

    def come_back(self):
        self.folder.with_name("away").rename(self.folder)

    def close(self):
        """Nothing is left open."""


class PostgresLedger:
    """A database behind a forwarder, which is away while that is closed."""

    kind = "postgresql"

    def __init__(self, url):
        self._direct = url
        credentials, _, target = url.rpartition("@")
        host, _, database = target.partition("/")
        self.forwarder = TcpForwarder(host)
        self.url = f"{credentials}@127.0.0.1:{self.forwarder.port}/{database}"
        self.execute("DROP SCHEMA IF EXISTS modelhub CASCADE")

    def connect(self):
        import psycopg

        return psycopg.connect(self._direct, autocommit=True, options="-c search_path=modelhub -c timezone=Asia/Tokyo")

    def execute(self, statement):
        with self.connect() as connection:
            connection.execute(statement)

    def rows(self, query, *values):
        with self.connect() as connection:
            return connection.execute(query.replace("?", "%s"), values).fetchall()

    def go_away(self):
        self.forwarder.close()

    def come_back(self):
        self.forwarder.open()

    def close(self):
        self.forwarder.close()


@pytest.fixture(name="ledger", params=["sqlite", "postgresql"])
def _ledger(request, tmp_path):
    """An empty ledger of either kind: its URL, and ways to look into it and to have it go away."""
    if request.param == "sqlite":
        ledger = SqliteLedger(tmp_path)
    else:
        ledger = PostgresLedger(request.getfixturevalue("postgres"))
    yield ledger
    ledger.close()


@pytest.fixture(name="remote")
def _remote(postgres):
    """An empty ledger in PostgreSQL."""
    ledger = PostgresLedger(postgres)
    yield ledger
    ledger.close()


def until(is_true, seconds=20):
    """Wait until *is_true*."""
    ends = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < ends
        time.sleep(0.005)
