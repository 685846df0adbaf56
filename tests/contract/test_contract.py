"""The same checks over every provider of the registry: whoever adds one writes its fixtures, and no test."""

import json
import shutil
from pathlib import Path

import pytest

from modelhub import registry
from modelhub.providers.openai import OpenAIChatModel
from modelhub.providers.scripted import ScriptedChatModel
from modelhub.testing.contract import KEY, provider_contract
from tests.tables import table

FIXTURES = Path(__file__).parent / "fixtures"
FURTHER = {"openai_responses": "openai"}
"""Folders of fixtures for a further API of a vendor's, and its provider."""
# The scripted provider asks nobody: its fixtures are the steps that it plays.
CONNECT = {"scripted": lambda served: ScriptedChatModel(steps=[json.loads(served.fixture)])}


def find_folders():
    """The folder of fixtures and the provider of every registered provider, and of the further APIs."""
    return {kind: kind for kind in sorted(registry.PROVIDERS)} | FURTHER


def list_checks(folder):
    """Every check of the provider, or of the further API, whose fixtures are in *folder*."""
    kind = find_folders()[folder]
    return provider_contract(kind, FIXTURES / folder, CONNECT.get(kind))


@table("folder", find_folders())
async def test_every_provider_keeps_the_contract(folder):
    """The same question gives the same reply, the same snapshots and the same errors, whoever answers."""
    results = await verdicts(list_checks(folder))
    assert {name: why for name, why in results.items() if why is not None} == {}
    assert len(results) > 20


# -- the contract itself -----------------------------------------------------------------------------------------------


async def verdicts(checks):
    """What each of *checks* says: None, or why it fails."""
    results = {}
    for check in checks:
        try:
            await check()
            results[check.name] = None
        except (AssertionError, FileNotFoundError) as error:
            results[check.name] = str(error)
    return results


async def test_a_provider_without_fixtures_is_told_which_are_missing(monkeypatch):
    """One line in the registry is not enough: the first check names every file that must be written."""
    monkeypatch.setitem(registry.PROVIDERS, "acme", "modelhub.providers.openai:OpenAIOptions")
    first = next(check for check in list_checks("acme") if check.name == "acme-fixtures")
    with pytest.raises(AssertionError) as caught:
        await first()
    told = str(caught.value)
    assert f"missing in {FIXTURES / 'acme'}" in told
    for name in ("contract.json", "text.json", "text.sse or text.ndjson", "refusal.json", "error_rate_limited.json"):
        assert name in told


@table(
    ("change", "told"),
    [
        (lambda folder: (folder / "thinking.sse").unlink(), "thinking.sse or thinking.ndjson"),
        (lambda folder: (folder / "thinkign.json").touch(), "thinkign.json is not wanted"),
        (lambda folder: about(folder, lacks={"thinkign": "it cannot"}), "lacks `thinkign`, which is no case"),
        (lambda folder: about(folder, lacks={"thinking": ""}), "no reason is given for `thinking`"),
        (lambda folder: about(folder, lacks={"refusal": "it never does"}), "refusal.json is not wanted"),
    ],
    ids=["missing", "misspelt", "no case", "no reason", "lacking and there"],
)
async def test_the_folder_is_checked(tmp_path, change, told):
    """A file that is misspelt, or left over, does not pass for one that is checked."""
    folder = shutil.copytree(FIXTURES / "openai", tmp_path / "openai")
    change(folder)
    with pytest.raises(AssertionError, match=told):
        await provider_contract("openai", folder)[0]()


def about(folder, **changes):
    """Change what `contract.json` says."""
    path = folder / "contract.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def faulty(**methods):
    """A way to make a model that breaks the contract with *methods*."""
    cls = type("Faulty", (OpenAIChatModel,), methods)
    return lambda served: cls("gpt-5-mini", KEY, base_url=served.url)


async def asks_twice(self, payload):
    """Retries on its own."""
    await OpenAIChatModel.call(self, payload)
    return await OpenAIChatModel.call(self, payload)


def takes_any_end(self, event, builder):
    """Takes a stream for complete as soon as there is content."""
    OpenAIChatModel.parse_event(self, event, builder)
    builder.complete = builder.complete or builder.has_content


def forgets_usage(self, event, builder):
    """Reads no usage in streams."""
    OpenAIChatModel.parse_event(self, event, builder)
    builder.usage = None


def forgets_the_wait(self, status, headers, body):
    """Does not tell how long to wait."""
    failure = OpenAIChatModel.error_from_response(self, status, headers, body)
    failure.retry_after = None
    return failure


def calls_all_invalid(self, status, headers, body):
    """Has one class for all."""
    from modelhub import InvalidRequest

    failure = OpenAIChatModel.error_from_response(self, status, headers, body)
    return InvalidRequest(str(failure), status=failure.status, retry_after=failure.retry_after)


def loses_a_call(self, event, builder):
    """Reads the first call only."""
    if b'"index": 1' not in event.data:
        OpenAIChatModel.parse_event(self, event, builder)


FAULTS = {
    "asks twice": ({"call": asks_twice}, {"text-plain", "round_trip", "empty-plain"}),
    "takes any end": ({"parse_event": takes_any_end}, {"cut"}),
    "forgets usage in streams": ({"parse_event": forgets_usage}, {"usage-streamed", "text-streamed"}),
    "forgets the wait": (
        {"error_from_response": forgets_the_wait},
        {"error_rate_limited-plain", "error_rate_limited-streamed"},
    ),
    "calls all invalid": ({"error_from_response": calls_all_invalid}, {"error_auth-plain", "error_context-streamed"}),
    "loses a call": ({"parse_event": loses_a_call}, {"parallel-streamed", "in_small_pieces"}),
    "shows the key": ({"secrets": lambda self: ()}, {"error_auth-plain", "error_auth-streamed"}),
}


@table(("methods", "fails"), FAULTS.values(), ids=FAULTS.keys())
async def test_a_faulty_provider_does_not_pass(methods, fails):
    """Each of the usual faults is found by the checks that are there for it, and sound ones are not found faulty."""
    checks = {check.name: check for check in provider_contract("openai", FIXTURES / "openai", faulty(**methods))}
    wanted = {f"openai-{name}" for name in fails}
    results = await verdicts(checks[name] for name in sorted(wanted | {"openai-thinking-plain"}))
    assert {name for name, why in results.items() if why is not None} >= wanted
    assert results["openai-thinking-plain"] is None or "call" in methods
