"""A conversation that is begun with one vendor and goes on with another: all 36 pairs, there and back."""

import json

from modelhub.testing.contract import TOOL
from tests.tables import table

KINDS = ["anthropic", "dashscope", "gemini", "ollama", "openai", "openai_responses"]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
THOUGHT = "The island has two harbours, so both must be asked."
TEXT = "I look at both harbours."
CALLS = [{"harbour": "Søby", "seats": 2}, {"harbour": "Faaborg", "seats": 2}]

# What only its own vendor can read, and gets back as it came: thoughts, and what is signed.
BOUND = {
    "anthropic": [THOUGHT, "c2lnbmVkLWJ5LWFudGhyb3BpYw==", "c2VhbGVkLWJ5LWFudGhyb3BpYw=="],
    "dashscope": [THOUGHT],
    "gemini": [
        THOUGHT,
        "dGhvdWdodC1zaWduZWQtYnktZ2VtaW5p",
        "dGV4dC1zaWduZWQtYnktZ2VtaW5p",
        "Y2FsbC1zaWduZWQtYnktZ2VtaW5p",
    ],
    "ollama": [THOUGHT],
    "openai": [],  # takes no thoughts back; servers that do are told by their quirks
    "openai_responses": [THOUGHT, "dGhvdWdodC1zZWFsZWQtYnktb3BlbmFp"],
}
BEGINNING = [
    {"role": "system", "content": "You know the timetables of all ferries."},
    {"role": "developer", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Which ferry takes two of us to the island on this map?"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        ],
    },
]


async def asked(vendor, model, messages):
    """The reply to *messages*, and the body that was sent; a history may have been kept as JSON in between."""
    kept = json.dumps(messages)
    told = json.loads(kept)
    reply = await model(told, [TOOL], stream=False)
    assert json.dumps(told) == kept
    return reply, vendor.body


def goes_on(messages, reply):
    """The conversation with *reply*, and all that follows in one message, in an order that no vendor takes."""
    first, second = reply.tool_calls
    return [
        *messages,
        {"role": "assistant", "content": reply.content},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And back?"},
                {"type": "tool_result", "id": second["id"], "output": [{"type": "text", "text": "09:40"}, "full"]},
                {"type": "tool_result", "id": first["id"], "output": "07:15, with room"},
            ],
        },
    ]


def turn(first_id):
    """What one round says, whoever says it: the calls have the numbers *first_id* and the next."""
    calls = [("call", first_id + place, "find_ferry", call) for place, call in enumerate(CALLS)]
    results = [("result", first_id, "07:15,withroom"), ("result", first_id + 1, "09:40full")]
    return [
        ("assistant", [("text", "Ilookatbothharbours."), *calls]),
        ("user", [*results, ("text", "Andback?")]),
    ]


QUESTION = ("user", [("text", "Whichferrytakestwoofustotheislandonthismap?"), ("image", PIXEL)])
SYSTEM = "Youknowthetimetablesofallferries.Bebrief."


@table("behind", KINDS)
@table("first", KINDS)
async def test_a_conversation_goes_on_with_another_vendor(first, behind, rules, wire, listening):
    """Both bodies obey their vendors' rules and say the same; what is bound to one vendor goes back to it alone."""
    async with listening(first) as one, listening(behind) as other:
        one.begins()
        other.begins()
        async with one.model() as first_model, other.model() as second_model:
            reply, began = await asked(one, first_model, BEGINNING)
            messages = goes_on(BEGINNING, reply)
            further, went_on = await asked(other, second_model, messages)
            _, came_back = await asked(one, first_model, goes_on(messages, further))
    assert reply.thinking == THOUGHT
    assert rules.problems(first, began, one.target) == []
    assert rules.problems(behind, went_on, other.target) == []
    assert rules.problems(first, came_back, one.target) == []
    assert wire.essence(wire.read(first, began)) == (SYSTEM, [QUESTION])
    assert wire.essence(wire.read(behind, went_on)) == (SYSTEM, [QUESTION, *turn(0)])
    assert wire.essence(wire.read(first, came_back)) == (SYSTEM, [QUESTION, *turn(0), *turn(2)])
    same, thinks = behind == first, THOUGHT in BOUND[first]
    assert bound(went_on, first) == (BOUND[first] if same else [])
    assert bound(came_back, first) == BOUND[first]
    assert same or set(bound(came_back, behind)) <= {THOUGHT}  # the first vendor's own, in the same words
    assert (thoughts(went_on), thoughts(came_back)) == (thinks and same, thinks * (1 + same))
    assert wire.tools(first, began) == wire.tools(behind, went_on)


def bound(body, kind):
    """What of *kind*'s own there is in *body*."""
    text = json.dumps(body, ensure_ascii=False)
    return [one for one in BOUND[kind] if one in text]


def thoughts(body):
    """How often *body* tells the thought."""
    return json.dumps(body, ensure_ascii=False).count(THOUGHT)
