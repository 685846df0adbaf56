"""SQLite ledgers as earlier releases wrote them: the statements of each version, and one call."""

import sqlite3
from contextlib import closing

COUNTS = """
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost TEXT,
    prices TEXT,
    estimated INTEGER NOT NULL,"""
VERSIONS = (
    (
        f"""CREATE TABLE calls (
    call_id TEXT PRIMARY KEY,
    at TEXT NOT NULL,
    requested TEXT NOT NULL,
    model TEXT,
    vendor TEXT,
    model_name TEXT,
    outcome TEXT NOT NULL,
    error TEXT,{COUNTS}
    first_token REAL,
    duration REAL NOT NULL,
    attempts INTEGER NOT NULL,
    tags TEXT NOT NULL
) WITHOUT ROWID""",
        f"""CREATE TABLE attempts (
    call_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    model TEXT NOT NULL,
    vendor TEXT NOT NULL,
    model_name TEXT NOT NULL,
    outcome TEXT NOT NULL,
    used INTEGER NOT NULL,{COUNTS}
    started REAL NOT NULL,
    duration REAL NOT NULL,
    PRIMARY KEY (call_id, number)
) WITHOUT ROWID""",
        "CREATE INDEX calls_at ON calls (at)",
    ),
    (
        "ALTER TABLE calls ADD COLUMN cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0",
    ),
    (
        "ALTER TABLE calls ADD COLUMN writer TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE calls ADD COLUMN batch INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX calls_batch ON calls (batch)",
    ),
    (
        "ALTER TABLE calls ADD COLUMN response_model TEXT",
        "ALTER TABLE attempts ADD COLUMN response_model TEXT",
    ),
    (
        "ALTER TABLE calls ADD COLUMN shape TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE attempts ADD COLUMN dropped TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE attempts ADD COLUMN rounded TEXT NOT NULL DEFAULT ''",
    ),
    (
        "ALTER TABLE calls ADD COLUMN arm TEXT",
        "ALTER TABLE attempts ADD COLUMN arm TEXT",
    ),
)
AT = "2026-01-01T00:00:00.000000+00:00"
FIGURES = "9, 2, 4, 3, 1, '0.5', 'pricing', 0"


def write_ledger(path, version):
    """Write the file of *version* at *path*, with the call `x` of tag n=0; from version 3 on it is of batch 7."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for statement in (*VERSIONS[0], f"PRAGMA user_version={version}"):
            connection.execute(statement)
        call = f"'x', '{AT}', 'm', 'm', 'v', 'm-1', 'complete', NULL, {FIGURES}, 0.1, 0.2, 1, '{{\"n\": \"0\"}}'"
        connection.execute(f"INSERT INTO calls VALUES ({call})")
        connection.execute(f"INSERT INTO attempts VALUES ('x', 0, 'm', 'v', 'm-1', 'ok', 1, {FIGURES}, 0, 0.2)")
        for statements in VERSIONS[1:version]:
            for statement in statements:
                connection.execute(statement)
        if version >= 3:
            connection.execute("UPDATE calls SET writer = 'earlier', batch = 7")
        connection.commit()
