"""A job that is killed at random points with SIGKILL, against a server that counts what it is asked.

`python -m benchmarks.job_kills --kills 20` runs `modelhub batch` again and again until it ends by itself. What must
hold: no row is asked again whose answer the journal had when the process died, no more rows are asked twice than were
under way, and the output has every row once.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONFIG = """
version: 1
models:
  gpt: {provider: openai, model_name: gpt-5-mini, api: chat, api_key: k, base_url: "http://127.0.0.1:%d/v1"}
"""


class CountingServer:
    """Speaks OpenAI's chat completions, each answer a moment late, and counts the requests by their prompt."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                prompt = body["messages"][-1]["content"]
                with owner._lock:
                    owner.counts[prompt] += 1
                time.sleep(seconds)
                answer = json.dumps(make_completion(f"answer to {prompt}")).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                pass  # the client was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def total(self) -> int:
        with self._lock:
            return self.counts.total()

    def snapshot(self) -> Counter[str]:
        with self._lock:
            return self.counts.copy()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def make_completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
    }


@dataclass
class Outcome:
    """What was seen: rows that were asked again though the journal had them, and how the output ended."""

    kills: int = 0
    asked_again: list[str] = field(default_factory=list)
    asked: int = 0
    journalled_at_kill: list[int] = field(default_factory=list)
    wrong_rows: dict[int, int] = field(default_factory=dict)
    exit_status: int | None = None


def kill_job(folder: Path, *, rows: int, kills: int, concurrency: int, seed: int, seconds: float = 0.01) -> Outcome:
    """Run a job of *rows* rows in *folder*, killed at *kills* random points, and return what was seen."""
    chance, outcome, server = random.Random(seed), Outcome(), CountingServer(seconds)
    (folder / "models.yaml").write_text(CONFIG % server.port)
    lines = [json.dumps({"id": number, "text": f"row {number}"}) for number in range(rows)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    output = folder / "answers.jsonl"
    for kill in range(kills):
        before, known = server.snapshot(), read_journal(output)
        share = (kill + chance.random()) / kills  # points over the whole job, also before the first answer
        run_until(folder, concurrency, server, int(share * rows), chance.random() * 0.03)
        outcome.kills += 1
        outcome.asked_again += find_asked_again(server, before, known)
        outcome.journalled_at_kill.append(len(read_journal(output)))
    before, known = server.snapshot(), read_journal(output)
    outcome.exit_status = start_job(folder, concurrency).wait()
    outcome.asked_again += find_asked_again(server, before, known)
    outcome.asked = server.total()
    numbers = Counter(json.loads(line)["id"] for line in output.read_text().splitlines())
    outcome.wrong_rows = {number: numbers[number] for number in range(rows) if numbers[number] != 1}
    server.close()
    return outcome


def start_job(folder: Path, concurrency: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "modelhub", "batch", "gpt", "rows.jsonl", "-o", "answers.jsonl"]
    options = ["--prompt", "Say {text}", "--concurrency", str(concurrency), "--file", "models.yaml"]
    silent = subprocess.DEVNULL
    return subprocess.Popen([*command, *options], cwd=folder, stdin=silent, stdout=silent, stderr=silent)


def run_until(folder: Path, concurrency: int, server: CountingServer, asked: int, wait: float) -> None:
    """Run the job until the server was asked *asked* times in all, and kill it *wait* seconds later."""
    process = start_job(folder, concurrency)
    while process.poll() is None and server.total() < asked:
        time.sleep(0.001)
    time.sleep(wait)
    process.kill()
    process.wait()


def read_journal(output: Path) -> set[str]:
    """The prompts that the journal has an answer for; the journal is left as the killed process has left it."""
    journal = output.with_name(f"{output.name}.journal")
    if not journal.exists():
        return set()
    with tempfile.TemporaryDirectory() as folder:
        for path in output.parent.glob(f"{journal.name}*"):
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        database = sqlite3.connect(Path(folder) / journal.name)
        try:
            rows = database.execute("SELECT columns FROM answers").fetchall()
        except sqlite3.OperationalError:  # killed before there was a table
            rows = []
        finally:
            database.close()
    return {json.loads(columns)["answer"].removeprefix("answer to ") for (columns,) in rows}


def find_asked_again(server: CountingServer, before: Counter[str], known: set[str]) -> list[str]:
    return [prompt for prompt, count in server.snapshot().items() if prompt in known and count > before[prompt]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_job(Path(folder), **vars(options))
    print(f"seed {options.seed}: {options.rows} rows, {outcome.kills} kills, exit status {outcome.exit_status}")
    print(f"journalled at each kill: {outcome.journalled_at_kill}")
    allowed = outcome.kills * options.concurrency
    print(f"asked {outcome.asked} times: {outcome.asked - options.rows} rows more, of at most {allowed}")
    print(f"asked again though journalled: {len(outcome.asked_again)}; missing or twice: {len(outcome.wrong_rows)}")
    sys.exit(bool(outcome.asked_again or outcome.wrong_rows or outcome.exit_status))


if __name__ == "__main__":
    main()
