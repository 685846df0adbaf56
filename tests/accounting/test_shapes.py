"""The ledger keeps what calls asked for and what was left out of them, and nothing of what they said."""

import asyncio
import json
import sqlite3
from contextlib import closing

from pydantic import BaseModel

from modelhub import Hub
from modelhub.cli.fit.shape import SAMPLE_TOOL
from modelhub.core.context import Services
from modelhub.testing import FaultServer, reroute_config
from tests.tables import table

SECRET = "what nobody else may read"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


class Invoice(BaseModel):
    total: int


def calls_in(path):
    with closing(sqlite3.connect(path)) as connection:
        return [json.loads(shape) for (shape,) in connection.execute("SELECT shape FROM calls ORDER BY at")]


def ask(path, *args, models=None, **kwargs):
    models = models or {"m": {"provider": "scripted", "reply": '{"total": 1}'}}
    config = {"version": 1, "models": models, "usage": {"ledger": str(path), "batch": 1}}

    async def main():
        async with Hub.from_dict(config) as hub:
            reply = await hub.get("m")(*(args or [SECRET]), **kwargs)
            return await reply.final() if kwargs.get("stream") else reply

    return asyncio.run(main())


@table(
    ("call", "shape"),
    [
        ({}, {}),
        ({"tools": [SAMPLE_TOOL]}, {"tools": True}),
        ({"tools": [SAMPLE_TOOL], "tool_choice": "look_up"}, {"tools": True, "tool_choice": "tool"}),
        ({"structured_model": Invoice}, {"schema": True}),
        ({"stream": True}, {"stream": True}),
        ({"deadline": 5, "tags": {"user": SECRET}}, {}),
        (
            {"max_tokens": 500, "temperature": 0.5, "seed": 7},
            {"ask": {"max_tokens": 500, "temperature": 0.5, "seed": 1}},
        ),
        ({"reasoning_effort": "high", "stop": [SECRET]}, {"ask": {"reasoning_effort": "high", "stop": "END"}}),
        ({"service_tier": SECRET}, {"ask": {"service_tier": "text"}}),
        ({"user": SECRET, "suffix": SECRET}, {"ask": {"user": "user", "suffix": "text"}}),
        ({"response_format": {"type": "json_object"}}, {"ask": {"response_format": {"type": "json_object"}}}),
        ({"extra_body": {SECRET: SECRET}, "logit_bias": None}, {"ask": {"extra_body": {}}}),
        ({"modalities": [SECRET, SECRET]}, {"ask": {"modalities": ["text"]}}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_the_shape_of_a_call_is_recorded_and_nothing_that_it_says(tmp_path, call, shape):
    """Numbers, switches and known words are kept; of everything else only that it is there."""
    path = tmp_path / "usage.db"
    ask(path, **call)
    assert calls_in(path) == [shape]


def test_media_are_recorded_by_kind_also_in_results_of_tools(tmp_path):
    """An image that a tool gave back needs a model that sees as well."""
    path = tmp_path / "usage.db"
    image = {"type": "image_url", "image_url": {"url": PIXEL}}
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    ask(path, [{"role": "user", "content": [sound]}])
    ask(
        path,
        [
            {"role": "user", "content": SECRET},
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "see", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": [image]},
        ],
    )
    assert calls_in(path) == [{"audio": True}, {"image": True}]


def test_what_was_left_out_or_rounded_stands_with_the_attempt(tmp_path):
    """By name, with the reason."""
    path = tmp_path / "usage.db"
    model = {"provider": "anthropic", "model_name": "claude-opus-4-8"}
    with FaultServer().running() as server:
        models = reroute_config({"version": 1, "models": {"m": model}}, server)["models"]
        reply = ask(path, models=models, temperature=0.5, seed=3, reasoning_effort="minimal")
    (attempt,) = reply.attempts
    with closing(sqlite3.connect(path)) as connection:
        ((dropped, rounded),) = connection.execute("SELECT dropped, rounded FROM attempts").fetchall()
    assert set(attempt.dropped) == {"temperature", "seed"}
    assert (json.loads(dropped), json.loads(rounded)) == (attempt.dropped, attempt.rounded)
    assert set(attempt.rounded) == {"reasoning_effort"}


def test_without_a_ledger_no_shape_is_made():
    """What nobody records is not looked for."""
    events = []

    async def main():
        models = {"m": {"provider": "scripted"}}
        async with Hub.from_dict(
            {"version": 1, "models": models}, services=Services(observers=(events.append,))
        ) as hub:
            await hub.get("m")("hello", max_tokens=5)

    asyncio.run(main())
    assert events[-1].shape is None
