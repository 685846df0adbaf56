"""What a type checker knows of a call; checked by `make lint`, never run."""

from typing import Any, assert_type

from pydantic import BaseModel

from modelhub import Chain, ChatResponse, ChatStream, Hub, OpenAIChatModel, RowResult


class Invoice(BaseModel):
    """A structured answer."""

    total: float


async def calls(hub: Hub, model: OpenAIChatModel) -> None:
    """A reply is a response, unless the call says that it streams."""
    chain = hub.get("primary")
    assert_type(chain, Chain)
    assert_type(await chain("hi"), ChatResponse[Any])
    assert_type(await chain([{"role": "user", "content": "hi"}], tools=[], deadline="5s"), ChatResponse[Any])
    assert_type(await model("hi", temperature=0), ChatResponse[Any])
    assert_type(await chain("hi", stream=True), ChatStream[Any])
    assert_type(await model("hi", stream=True), ChatStream[Any])
    assert_type(await chain.stream("hi"), ChatStream[Any])
    assert_type(await chain.with_tags(user="42").stream("hi"), ChatStream[Any])
    async for snapshot in await chain.stream("hi"):
        assert_type(snapshot.text, str)


async def structured(hub: Hub, model: OpenAIChatModel) -> None:
    """The output of a structured call is an instance of the class that was asked for."""
    assert_type((await hub.get("primary")("hi", structured_model=Invoice)).output, Invoice)
    assert_type((await model("hi", structured_model=Invoice)).output.total, float)
    assert_type((await model("hi", structured_model={"type": "object"})).output, Any)
    stream = await hub.get("primary").stream("hi", structured_model=Invoice)
    async for snapshot in stream:
        assert_type(snapshot.output, Invoice | None)
    assert_type((await stream.final()).output, Invoice)


def sync(hub: Hub) -> None:
    """`sync` gives the same types."""
    assert_type(hub.get("primary").sync("hi"), ChatResponse[Any])
    assert_type(hub.get("primary").sync("hi", structured_model=Invoice).output, Invoice)
    for snapshot in hub.get("primary").sync("hi", stream=True):
        assert_type(snapshot, ChatResponse[Any])


async def rows(hub: Hub, model: OpenAIChatModel) -> None:
    """Each row of a job has the type of its structured output."""
    async for row in hub.get("primary").map(["hi"]):
        assert_type(row, RowResult[Any])
    async for invoice in model.map(["hi"], structured_model=Invoice, temperature=0):
        assert_type(invoice.output, Invoice | None)
    for result in hub.get("primary").map(["hi"], structured_model=Invoice).sync():
        assert_type(result.reply, ChatResponse[Invoice] | None)
