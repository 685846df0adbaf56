"""Server-sent events and JSON lines out of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub.core.errors import BadReply
from modelhub.providers.http import HttpResponse
from modelhub.providers.http.sse import read_events, read_lines

STREAM = (
    b": comment\n\ndata: one\n\ndata:two\r\n\r\nevent: named\ndata: a\ndata: b\n\ndata:\n\nid: 7\n"
    b"retry: 5\ndata: \xc3\xa9\n\n\n\n\n\rdata: cr\r\rstray line\ndata: cut off"
)
EVENTS = [
    ("", b"one"),
    ("", b"two"),
    ("named", b"a\nb"),
    ("", b"\xc3\xa9"),
    ("", b"cr"),
    ("", b"cut off"),
]


async def pieces_of(data, sizes):
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size
    yield data[start:]


@given(st.lists(st.integers(1, 12)))
async def test_events_are_the_same_however_they_are_cut(sizes):
    """The network cuts anywhere, also inside of a line's end or a letter."""
    unparsed = []
    events = [event async for event in read_events(pieces_of(STREAM, sizes), unparsed_lines=unparsed)]
    assert events == EVENTS
    assert unparsed == [b"stray line"]


class Body:
    """A body that comes in pieces."""

    def __init__(self, pieces):
        self.pieces = pieces

    def read_available(self):
        return None

    async def read_chunk(self):
        return await anext(self.pieces, b"")

    async def close(self, *, is_complete):
        pass


@given(st.lists(st.integers(1, 4)))
async def test_a_body_begins_behind_what_is_blank(sizes):
    """White space and a byte order mark, wherever they are cut, come before the first byte, which is seen and read."""
    response = HttpResponse(200, {}, Body(pieces_of(b" \r\n\xef\xbb\xbf data: one\n\n", sizes)))
    assert (await response.peek())[:1] == b"d"
    assert [event async for event in read_events(response.aiter_bytes())] == [("", b"one")]


@given(st.lists(st.integers(1, 9)))
async def test_lines_are_the_same_however_they_are_cut(sizes):
    """Blank ones are no lines, and the last needs no end."""
    data = b'{"a":1}\n\n  \r\n{"b":2}\r\n{"c":3}'
    assert [line.data async for line in read_lines(pieces_of(data, sizes))] == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


@pytest.mark.parametrize("reader", [read_events, read_lines])
async def test_the_size_of_an_event_is_bounded(reader):
    """An event that never ends is refused before it fills the memory; many small ones are not."""

    async def chunks(chunk, number):
        for _ in range(number):
            yield chunk

    async for _ in reader(chunks(b"data: small\n\n", 1000), max_bytes=2000):
        pass
    with pytest.raises(BadReply, match="larger than"):
        async for _ in reader(chunks(b"data: endless", 1000), max_bytes=2000):
            pass
