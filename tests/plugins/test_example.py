"""The plug-in of the examples keeps the contract of every provider, and is small."""

import re
import sys
from pathlib import Path

import pytest

from modelhub.testing.contract import KEY, provider_contract
from tests.tables import table

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"
SOURCES = sorted((PLUGIN / "modelhub_cohere").glob("*.py"))


@pytest.fixture(scope="module", autouse=True)
def _on_the_path():
    sys.path.insert(0, str(PLUGIN))
    yield
    sys.path.remove(str(PLUGIN))
    for name in [name for name in sys.modules if name.partition(".")[0] == "modelhub_cohere"]:
        del sys.modules[name]


def connect(served):
    from modelhub_cohere import CohereOptions

    return CohereOptions(model_name="command-a-03-2025", api_key=KEY, base_url=served.url).connect()


@table("check", provider_contract("cohere", PLUGIN / "fixtures", connect), ids=str)
async def test_the_contract(check):
    """A vendor without an SDK, in a package of its own, answers and fails as the built-in ones do."""
    await check()


def test_it_is_small_and_uses_what_is_public():
    """A further vendor takes less than 250 lines, and no private module."""
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert text.count("\n") < 250
    assert re.search(r"modelhub[\w.]*\._", text) is None


def test_a_key_of_the_environment_goes_to_the_vendors_own_host_only(monkeypatch):
    """The rule is the same as for the built-in vendors, because it is said in one place."""
    from modelhub_cohere import CohereOptions

    monkeypatch.setenv("CO_API_KEY", "key-of-the-environment")
    own = CohereOptions(model_name="command-a-03-2025").connect()
    elsewhere = CohereOptions(model_name="command-a-03-2025", base_url="https://gateway.example").connect()
    assert list(own.secrets()) == ["key-of-the-environment"]
    assert list(elsewhere.secrets()) == []
    assert "CO_API_KEY is sent to cohere.com only" in elsewhere.missing()
