"""What is imported, and when: nobody pays for what he does not use.

One process does everything below, one after another, and says after each what it has loaded.
"""

import json
import subprocess
import sys

import pytest

SDKS = {"openai", "anthropic", "dashscope", "ollama", "google.genai", "opentelemetry"}
HTTP_STACKS = {"httpx", "httpx2", "anyio", "aiohttp"}
LATER = {
    *("modelhub.core.row_stream", "aiolimiter", "genai_prices", "psycopg", "rich", "sqlalchemy", "sqlite3"),
    *("structlog", "tenacity", "typer"),
}
"""What only some calls, files and commands need."""
NEVER = SDKS | HTTP_STACKS

SCRIPTED_FILE = "version: 1\nmodels: {a: {provider: scripted, reply: x}}"
OPENAI_ENTRY = {"provider": "openai", "model_name": "x", "api_key": "k"}
BUDGET = {
    "version": 1,
    "models": {"m": {"provider": "scripted"}},
    "budgets": {"b": {"tokens": 1, "per": "day"}},
}
CALLS = """
import asyncio
overloaded, broken = [{"fail": "Overloaded", "status": 503}], [{"say": "one two three", "break_after": 2}]
models = {"a": overloaded, "b": broken, "c": [{"say": "one"}]}
hub = modelhub.Hub.from_dict({
    "version": 1,
    "defaults": {"retry": {"initial_wait": 0}},
    "models": {name: {"provider": "scripted", "steps": steps} for name, steps in models.items()},
    "chains": {"good": {"models": ["a", "b", "c"]}, "bad": {"models": ["a"]}},
})

async def call():
    await (await hub.get("good")("hi", stream=True)).final()
    try:
        await hub.get("bad")("hi")
    except modelhub.CallError:
        await hub.aclose()

asyncio.run(call())
"""
STEPS = {
    "import modelhub": NEVER | LATER | {"pydantic", "yaml", "modelhub.hub"},
    "from modelhub import Hub": NEVER
    | LATER
    | {"modelhub.config.changes", "modelhub.config.schema", "modelhub.file_watcher", "modelhub.telemetry.span", "yaml"},
    "import modelhub.config.load": NEVER | LATER | {"yaml"},
    "import modelhub.testing": NEVER | {"pytest", "yaml"},
    f"modelhub.config.load.load_text({SCRIPTED_FILE!r}, environ={{}})": NEVER | LATER | {"modelhub.providers.openai"},
    "from modelhub.providers.openai import OpenAIChatModel; OpenAIChatModel('m', 'k').missing()": NEVER,
    "from modelhub.providers.anthropic import AnthropicChatModel; AnthropicChatModel('m', 'k').missing()": NEVER,
    "from modelhub.providers.dashscope import DashScopeChatModel; DashScopeChatModel('m', 'k').missing()": NEVER,
    "from modelhub.providers.gemini import GeminiChatModel; GeminiChatModel('m', 'k').missing()": NEVER,
    "from modelhub.providers.ollama import OllamaChatModel; OllamaChatModel('m').missing()": NEVER,
    f"modelhub.Hub.from_dict({{'version': 1, 'models': {{'m': {OPENAI_ENTRY!r}}}}})": NEVER | LATER,
    f"modelhub.Hub.from_dict({BUDGET!r})": (NEVER | LATER) - {"genai_prices"},
    CALLS: NEVER | LATER - {"tenacity"},
}
"""What is done, and what must not be loaded afterwards."""

CODE = """
import sys

loaded = []
for step in {steps!r}:
    exec(step)
    loaded.append(sorted(sys.modules))
import json
json.dump(loaded, sys.stdout)
"""


@pytest.fixture(name="loaded", scope="module")
def _loaded():
    """The names of all modules that are loaded after each step."""
    code = CODE.format(steps=list(STEPS))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(zip(STEPS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.strip().split("\n")[0][:50])
def test_nothing_is_imported_before_it_is_needed(loaded, step):
    """Neither `import modelhub`, nor loading a file, nor making a model loads an SDK or what only a call needs.

    Nor do calls, also those that fail, load what records them where nobody has asked for that.
    """
    assert STEPS[step] & set(loaded[step]) == set()
    assert "modelhub" in loaded[step]
