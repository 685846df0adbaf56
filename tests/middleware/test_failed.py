"""AllModelsFailed: a chain's end is one error that reads well and can be taken apart."""

import pickle
import traceback

import pytest

from modelhub.core.errors import AllModelsFailed, AuthenticationFailed, CallError, Overloaded, RateLimited
from tests.tables import table

ONCE = {"retry": {"max_attempts": 1}}
TWICE = {"retry": {"max_attempts": 2, "initial_wait": 0}}


async def failure(chain, **options):
    """What the call ends with."""
    with pytest.raises(AllModelsFailed) as caught:
        await chain("hi", **options)
    return caught.value


@pytest.fixture(name="nested")
def _nested(world):
    """An outer chain whose model `a` stands in the inner one as well."""
    hub = world.hub(
        {
            "a": [{"fail": "Overloaded", "status": 503}] * 2 + [{"fail": "ServerError", "status": 500, "wait": 3}],
            "b": {"fail": "RateLimited", "status": 429, "retry_after": 40},
            "gpt": {"provider": "openai", "model_name": "x"},
        },
        {"inner": {"models": ["a", "b"]}, "outer": {"models": ["inner", "a", "gpt"]}},
        defaults=TWICE,
    )
    return hub.get("outer")


async def test_it_has_every_error_in_order_and_nests_as_the_chains_do(nested):
    """Chains in chains are groups in groups."""
    error = await failure(nested)
    inner, again, missing = error.exceptions
    assert (error.model, inner.model) == ("outer", "inner")
    assert [(leaf.model, leaf.kind) for leaf in inner.exceptions] == [("a", "Overloaded"), ("b", "RateLimited")]
    assert [(again.model, again.kind), (missing.model, missing.kind)] == [
        ("a", "ServerError"),
        ("gpt", "NotConfigured"),
    ]
    assert [leaf.kind for leaf in error.leaves()] == ["Overloaded", "RateLimited", "ServerError", "NotConfigured"]


async def test_its_text_is_a_table(nested):
    """A line for each model: who, what, how often and how long; a model that stands twice has two lines of its own."""
    title, *rows = str(await failure(nested)).splitlines()
    assert title == "no model of chain `outer` answered (2 tried, 6.0 s)"
    assert [" ".join(row.split()) for row in rows[:4]] == [
        "inner chain 2 failed",
        "a Overloaded 503, 2 attempts 0.0 s",
        "b RateLimited 429, retry after 40 s 0.0 s",
        "a ServerError 500, 2 attempts 6.0 s",
    ]
    assert "OPENAI_API_KEY" in rows[4]
    assert [len(row) - len(row.lstrip()) for row in rows] == [2, 4, 4, 2, 2]
    assert len({row.rindex("  ") for row in rows[1:]}) == 1


async def test_a_group_inside_reads_like_one_outside(nested):
    """Its text tells of its own models, not of all that was asked."""
    inner = (await failure(nested)).exceptions[0]
    assert str(inner).splitlines()[1:] == [
        "  a  Overloaded   503, 2 attempts        0.0 s",
        "  b  RateLimited  429, retry after 40 s  0.0 s",
    ]


async def test_looks_at_a_model_that_is_left_alone_are_no_attempts(world):
    """While it was waited for, it was only looked at."""
    chain = world.chain(
        [{"fail": "RateLimited", "retry_after": 9}, {"fail": "Overloaded"}], {"fail": "Overloaded"}, entry=ONCE
    )
    await failure(chain)
    error = await failure(chain)
    assert len(error.attempts) == 3
    assert "attempts" not in str(error)


async def test_request_ids_are_in_its_text(world, monkeypatch):
    """Shortened where they are long."""
    monkeypatch.setattr(Overloaded, "request_id", property(lambda _: "req_0123456789abcdef", lambda *_: None), False)
    error = await failure(world.chain({"fail": "Overloaded"}, {"fail": "ServerError"}, entry=ONCE))
    assert "req_012345.." in str(error)
    assert "req_0123456789" not in str(error)


async def test_a_message_of_several_lines_keeps_the_table_whole(world):
    """One line for each model, whatever a vendor wrote."""
    error = await failure(
        world.chain({"fail": "BadReply", "message": "<html>\n<body>\n oh no"}, {"fail": "Overloaded"}, entry=ONCE)
    )
    assert len(str(error).splitlines()) == 3
    assert "<html> <body> oh no" in str(error)


@table(
    ("failure_options", "shown"),
    [
        ({"fail": "AuthenticationFailed", "status": 401, "message": "it said 401: no"}, "  it said 401: no  "),
        ({"fail": "AuthenticationFailed", "status": 401, "message": "no such key"}, "  401, no such key  "),
        ({"fail": "Overloaded", "status": 503, "message": "busy"}, "  503  "),
        ({"fail": "BadReply", "message": "a " * 39 + "word behind"}, f"  {'a ' * 39}...  "),
        ({"fail": "BadReply", "message": "a" * 90}, f"  {'a' * 80} ...  "),
    ],
)
async def test_a_line_has_the_reason(world, failure_options, shown):
    """What the vendor said where the status alone does not say it, cut between two words."""
    assert shown in str(await failure(world.chain(failure_options, {"fail": "Overloaded"}, entry=ONCE)))


async def test_it_is_caught_as_itself_or_as_any_failure(nested):
    """One `except CallError` is enough for everything a call may raise."""
    with pytest.raises(CallError):
        await nested("hi")


async def test_except_star_takes_it_apart(nested):
    """By class, through all the chains in chains; the rest goes on."""
    limited, others = [], []
    try:
        await nested("hi")
    except* RateLimited as group:
        limited.append(group)
    except* CallError as group:
        others.append(group)
    ((found,), (rest,)) = limited, others
    assert isinstance(found, AllModelsFailed)
    assert [leaf.kind for leaf in found.leaves()] == ["RateLimited"]
    assert [leaf.kind for leaf in rest.leaves()] == ["Overloaded", "ServerError", "NotConfigured"]
    assert "b" in str(found)
    assert len(found.attempts) == 6


async def test_dominant_is_what_to_act_on(world):
    """The kind met most often among the models that were asked, and of these the last one."""
    chain = world.chain({"fail": "AuthenticationFailed"}, {"fail": "Overloaded"}, {"fail": "Overloaded"}, entry=ONCE)
    error = await failure(chain)
    assert type(error.dominant) is Overloaded
    assert error.dominant.model == "c"
    assert type(
        (await failure(world.chain({"fail": "AuthenticationFailed"}, {"fail": "AuthenticationFailed"}))).dominant
    ) is (AuthenticationFailed)


async def test_retry_after_is_the_first_chance(nested):
    """The shortest wait that any model asked for, however deep."""
    assert (await failure(nested)).retry_after == 40


async def test_its_attempts_are_the_story_of_the_call(nested, told):
    """The same list as the record's."""
    error = await failure(nested)
    assert told(error.attempts) == [
        ("a", "Overloaded"),
        ("a", "Overloaded"),
        ("b", "RateLimited"),
        ("a", "ServerError"),
        ("a", "ServerError"),
        ("gpt", "NotConfigured"),
    ]
    assert [len(leaf.attempts) for leaf in error.leaves()] == [2, 1, 2, 1]


async def test_it_survives_pickling(nested):
    """Text, tree and story: errors cross processes."""
    error = await failure(nested)
    twin = pickle.loads(pickle.dumps(error))
    assert str(twin) == str(error)
    assert twin.attempts == error.attempts


async def test_a_traceback_shows_the_table(nested):
    """Where nobody catches it, the log has it all."""
    text = "".join(traceback.format_exception(await failure(nested)))
    assert "no model of chain `outer` answered" in text
    assert "RateLimited    429, retry after 40 s" in text


def test_a_group_made_by_hand_reads_as_well():
    """Without attempts, without names."""
    error = AllModelsFailed("nothing worked", [Overloaded("busy"), AllModelsFailed("inner", [RateLimited("slow")])])
    assert str(error).splitlines() == [
        "nothing worked",
        "  ?    Overloaded   busy      0.0 s",
        "  ?    chain        1 failed",
        "    ?  RateLimited  slow      0.0 s",
    ]
