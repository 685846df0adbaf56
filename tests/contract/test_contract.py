"""The same checks over every provider of the registry: whoever adds one writes its fixtures, and no test."""

import json
from pathlib import Path

import pytest

from modelhub import registry
from modelhub.providers.scripted import ScriptedChatModel
from modelhub.testing.contract import provider_contract

FIXTURES = Path(__file__).parent / "fixtures"
# The scripted provider asks nobody: its fixtures are the steps that it plays.
CONNECT = {"scripted": lambda served: ScriptedChatModel(steps=[json.loads(served.fixture)])}


def contracts():
    """Every check of every registered provider."""
    return [
        check
        for kind in sorted(registry.PROVIDERS)
        for check in provider_contract(kind, FIXTURES / kind, CONNECT.get(kind))
    ]


@pytest.mark.parametrize("check", contracts(), ids=str)
async def test_every_provider_keeps_the_contract(check):
    """The same question gives the same reply, the same snapshots and the same errors, whoever answers."""
    await check()
