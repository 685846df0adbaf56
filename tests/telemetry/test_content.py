"""Prompts and answers are recorded for those who ask, and nobody else; secrets never."""

import json

import pytest

from modelhub import InvalidRequest
from modelhub.testing import run_virtual

SCHEMA = {"type": "object", "properties": {}}
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}
TALK = [
    {"role": "system", "content": "be prim"},
    {"role": "user", "content": [{"type": "text", "text": "quokka?"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hmm", "signature": "signed-by-vendor"},
            {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": "quokka"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "small marsupial"},
    {
        "role": "user",
        "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJDREVG"}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/quokka.png"}},
        ],
    },
]
ANSWER = {
    "think": "deep thought",
    "say": "it is cute",
    "call": {"name": "look", "arguments": {"at": "tail"}, "id": "c2"},
}
WORDS = ("quokka", "prim", "marsupial", "cute", "deep thought", "Looks", "tail")


def asked(hub, **kwargs):
    async def main():
        return await hub.get("main")(TALK, tools=[TOOL], **kwargs)

    return run_virtual(main())


def test_nothing_is_recorded_by_default(told):
    """No word of the prompt, the tools or the answer."""
    asked(told.hub(a=[ANSWER]))
    told_of = told.everything()
    assert told.attempts()
    assert not [word for word in WORDS if word in told_of]


def test_content_is_recorded_as_the_conventions_say(told):
    """As JSON, on the attempt; without signatures and without the bytes of media."""
    asked(told.hub(content=True, a=[ANSWER]))
    (span,) = told.attempts()
    assert json.loads(span.attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "be prim"}]},
        {"role": "user", "parts": [{"type": "text", "content": "quokka?"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hmm"},
                {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"at": "quokka"}},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "small marsupial"}]},
        {
            "role": "user",
            "parts": [
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": ""},
                {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://example.com/quokka.png"},
            ],
        },
    ]
    assert json.loads(span.attributes["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "deep thought"},
                {"type": "text", "content": "it is cute"},
                {"type": "tool_call", "id": "c2", "name": "look", "arguments": {"at": "tail"}},
            ],
            "finish_reason": "tool_call",
        }
    ]
    assert json.loads(span.attributes["gen_ai.tool.definitions"]) == [
        {"type": "function", "name": "look", "description": "Looks.", "parameters": SCHEMA}
    ]
    assert "signed-by-vendor" not in told.everything()
    assert not [name for name in told.call().attributes if "messages" in name]


@pytest.mark.parametrize("content", [False, True])
def test_what_a_failure_says_is_content(told, content):
    """A vendor may repeat what it was asked; the class of the failure is always there."""
    hub = told.hub(content=content, a=[{"fail": "InvalidRequest", "message": "no good: quux", "status": 400}])
    with pytest.raises(InvalidRequest):
        asked(hub)
    assert [span.attributes["error.type"] for span in (told.call(), *told.attempts())] == ["InvalidRequest"] * 2
    assert (told.attempts()[0].status.description == "no good: quux") is content
    assert ("quux" in told.everything()) is content


def test_metrics_never_hold_content(told):
    """Nor with content asked for."""
    asked(told.hub(content=True, a=[ANSWER]))
    measured = told.reader.get_metrics_data().to_json()
    assert not [word for word in WORDS if word in measured]


class Vendor:
    """What telemetry may look at of a provider."""

    telemetry_name = None

    def default_parameters(self):
        return {"max_tokens": 64, "temperature": 0.5, "n": 1, "seed": True, "user": "u"}

    def address(self):
        return "https://me:hunter2@example.com:8443/v1?key=hunter2"


def test_of_a_server_the_host_and_the_port_are_told(told):
    """Its URL may hold a password."""
    asked(told.hub(find=lambda _: Vendor(), a=[ANSWER]))
    (span,) = told.attempts()
    assert (span.attributes["server.address"], span.attributes["server.port"]) == ("example.com", 8443)
    assert "hunter2" not in told.everything()


def test_parameters_are_told_where_they_are_numbers(told):
    """The call's own go before the entry's; vendors' spellings are understood; one choice goes without saying."""
    asked(told.hub(find=lambda _: Vendor(), a=[ANSWER]), temperature=0.25, max_completion_tokens=9, stop=["x"])
    found = {name: value for name, value in told.attempts()[0].attributes.items() if name.startswith("gen_ai.request.")}
    assert found == {
        "gen_ai.request.model": "a-1",
        "gen_ai.request.temperature": 0.25,
        "gen_ai.request.max_tokens": 9,
    }
