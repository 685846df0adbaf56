"""A real server of OpenAI's dialect: llama.cpp with a tiny random model, through the wheel `xllamacpp`.

Nothing of it is a dependency. It runs where `pip install xllamacpp gguf numpy` was done, and is skipped elsewhere.
"""

import importlib.util
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

from modelhub.core.errors import AuthenticationFailed, ContextTooLong, InvalidRequest
from modelhub.providers.openai import OpenAIChatModel

TOOLS = Path(__file__).parents[3] / "shared" / "tools"
KEY = "sk-test-of-llama"
CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Rom", "Oslo"]}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
TIME = {"type": "function", "function": {"name": "time", "parameters": CITY}}


class Pet(BaseModel):
    """An animal."""

    kind: Literal["cat", "dog"]
    tame: bool


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """The address of a running llama.cpp server."""
    wanted = ("xllamacpp", "gguf", "numpy")
    if absent := [name for name in wanted if importlib.util.find_spec(name) is None]:
        pytest.skip(f"no real server: {', '.join(absent)} not installed (pip install xllamacpp gguf numpy)")
    if not (TOOLS / "serve_llama.py").exists():
        pytest.skip(f"no real server: its scripts are not there: {TOOLS}")
    model = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    subprocess.run([sys.executable, TOOLS / "make_tiny_gguf.py", model], check=True, capture_output=True)
    command = [sys.executable, TOOLS / "serve_llama.py", model, "0", "--api-key", KEY, "--ctx", "2048"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = server.stdout.readline()
        assert line.startswith("READY"), line
        yield line.split()[1]
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


@pytest.fixture
async def model(llama):
    """A model on it."""
    parameters = {"max_tokens": 32, "seed": 7}
    made = OpenAIChatModel("tiny", KEY, base_url=f"{llama}/v1", compat="llamacpp", generate_kwargs=parameters)
    async with made:
        yield made


async def test_a_plain_answer(model):
    """Text, counts, a reason to end, and the model's name."""
    reply = await model("Say something.", stream=False)
    assert reply.text
    assert reply.finish_reason in ("stop", "length")
    assert reply.usage.input_tokens > 0
    assert 0 < reply.usage.output_tokens <= 32
    assert (reply.model_name, len(reply.attempts)) == ("tiny", 1)


async def test_a_streamed_answer(model):
    """Snapshots grow to the same answer that comes whole."""
    arguments = {"temperature": 0, "max_tokens": 24}
    snapshots = [snapshot async for snapshot in await model("Say something.", **arguments)]
    assert len(snapshots) > 2
    assert all(later.text.startswith(former.text) for former, later in pairwise(snapshots))
    assert "".join(snapshot.delta for snapshot in snapshots) == snapshots[-1].text
    assert snapshots[-1].usage.output_tokens > 0
    whole = await model("Say something.", stream=False, **arguments)
    assert (snapshots[-1].text, snapshots[-1].finish_reason) == (whole.text, whole.finish_reason)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_structured_answer(model, stream):
    """The server is held to the schema that was sent, and the answer is validated."""
    reply = await model("A pet?", structured_model=Pet, stream=stream, max_tokens=128)
    reply = await reply.final() if stream else reply
    assert Pet.model_validate(reply.metadata)
    assert json.loads(reply.text) == reply.metadata


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("choice", "names"), [("required", {"weather", "time"}), ("time", {"time"})])
async def test_a_tool_is_demanded(model, stream, choice, names):
    """`required` gives a call of some tool, a name gives that one's; its result can be sent back."""
    ask = [{"role": "user", "content": "The weather?"}]
    reply = await model(ask, [WEATHER, TIME], choice, stream=stream, max_tokens=256)
    reply = await reply.final() if stream else reply
    call = reply.tool_calls[0]
    assert reply.finish_reason == "tool_calls"
    assert call["name"] in names
    assert call["input"]["city"] in ("Rom", "Oslo")
    result = {"role": "tool", "tool_call_id": call["id"], "content": "fine"}
    after = await model([*ask, reply, result], [WEATHER, TIME], "none", stream=False)
    assert after.usage.input_tokens > reply.usage.input_tokens


async def test_a_wrong_key(llama):
    """The server's own 401."""
    async with OpenAIChatModel("tiny", "sk-wrong", base_url=f"{llama}/v1") as model:
        for stream in (False, True):
            with pytest.raises(AuthenticationFailed) as caught:
                await model("hi", stream=stream)
            assert caught.value.status == 401


async def test_a_prompt_that_does_not_fit(model):
    """The server's own word for it is understood."""
    with pytest.raises(ContextTooLong):
        await model("word " * 3000, stream=False)


async def test_a_wrong_parameter(model):
    """The server's own 400."""
    with pytest.raises(InvalidRequest):
        await model("hi", stream=False, response_format={"type": "nonsense"})
