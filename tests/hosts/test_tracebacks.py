"""What a notebook shows of a failed call fits a screen."""

import re

import nbclient
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from modelhub.testing import FaultServer, faults

PROVIDERS = ["openai", "anthropic", "gemini", "dashscope", "ollama"]
SCREEN = 40
SETUP = """
from modelhub import Hub

async def ask(model, stream):
    reply = await hub.get(model)("hi", stream=stream)
    if stream:
        async for snapshot in reply:
            pass

hub = Hub.from_dict({config})
"""


def config(server):
    def entry(provider):
        address = {"host": server.url("a")} if provider == "ollama" else {"base_url": server.url("a"), "api_key": "k"}
        return {"provider": provider, "model_name": "m", "retry": {"max_attempts": 2, "initial_wait": 0}, **address}

    models = {provider: entry(provider) for provider in PROVIDERS}
    return {"version": 1, "models": models, "chains": {"chain": {"models": PROVIDERS[:2]}}}


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own making
def test_a_failed_calls_traceback_fits_a_screen():
    """IPython shows five lines of each frame: those of the caller, and what failed with its cause."""
    calls = [f"await ask({model!r}, {stream})" for model in [*PROVIDERS, "chain"] for stream in (False, True)]
    with FaultServer().running() as server:
        server.script("a", [faults.status(500)], then="repeat")
        setup = new_code_cell(SETUP.format(config=config(server)))
        notebook = new_notebook(cells=[setup, *map(new_code_cell, calls)])
        nbclient.NotebookClient(notebook, timeout=60, allow_errors=True).execute()
    texts = {cell.source: "".join(map(plain, cell.outputs)) for cell in notebook.cells[1:]}
    assert {call: lines for call, text in texts.items() if (lines := len(text.splitlines())) > SCREEN} == {}
    assert all("await ask(" in text and "ServerError: " in text for text in texts.values()), texts


def plain(output):
    """The text of an error, without colours; IPython writes groups of errors to stderr."""
    text = "\n".join(output.traceback) if output.output_type == "error" else output.text
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
