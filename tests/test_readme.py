"""The README and the examples do what they say."""

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelhub import Hub
from modelhub.cli.application import app
from modelhub.core.context import Services
from modelhub.testing import CannedResponse, FaultServer, ToolCall, VirtualClock, faults, reroute_config, run_virtual

ROOT = Path(__file__).parents[1]
LONG = bool(os.environ.get("MODELHUB_LONG"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SNIPPETS = [code for language, code in BLOCKS if language == "python"]
FILE = next(code for language, code in BLOCKS if language == "yaml")
EXPECTED = {
    "01_call": ["Good morning! What can I do for you?", "answered by greeter"],
    "02_stream": ["Good morning! What can I do for you?", "finished: stop"],
    "03_tools": ['get_weather({"city": "Oslo"}) -> 3 degrees and rain in Oslo', "Take an umbrella."],
    "04_structured": ["Acme: 128.50 EUR, open"],
    "05_job": ["flaky Overloaded, then flaky ok", "flaky RateLimited, then steady ok"],
    "07_swap": ["assistant: left out [], rounded {}", "{'article': 'teapot', 'euros': 12.5}"],
    "08_arms": ["served by {'stable': 882, 'canary': 118}, refused 1", "user-7 is always served by stable"],
    "14_pictures": ["greeter got 3 parts and says: Good morning!"],
    "09_thinking": ["thought: 17 has no divisor up to 4.", "said: Yes, 17 is prime.", "['thinking', 'text']"],
    "10_rows": ["0 Good morning!", "2 Good morning!"],
    "11_testing": ["answered by claude after 30 s of FirstTokenTimeout", "gpt was asked 1 times"],
    "12_budgets": ["ann: answered\nann: answered\nann: has spent what there is\nbob: answered"],
    "15_errors": ["act on RateLimited", "and no other was asked", "wrong for every vendor: messages"],
    "16_ledger": ["search: 2 complete, 16 tokens, $0.000", "support: 1 closed, 1 tokens, $0.000"],
    "17_serve": ["models: job, greeter", "scripted: The first report", "10 chunks: Good morning! What can I do"],
    "18_shared": ["both hubs together: 10 calls of 20"],
    "19_sticky": ["ann: asked ['first', 'second']\nann: asked ['second']\nbob: asked ['first']"],
    "13_reload": ["from a\nchain `primary` changed", "chain `primary` names an unknown model `c`\nfrom b"],
    "06_telemetry": [
        "gen_ai_client_operation_duration_seconds_count 1 modelhub_model=flaky, error_type=Overloaded",
        "gen_ai_client_token_usage_sum 7 modelhub_model=steady, gen_ai_token_type=output",
        "modelhub_call_duration_seconds_count 1 modelhub_requested=job, modelhub_model=steady",
    ],
}


@pytest.fixture(name="elsewhere")
def _elsewhere(tmp_path, monkeypatch):
    """A directory whose models.yaml is the README's."""
    (tmp_path / "models.yaml").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", SNIPPETS, ids=lambda code: f"snippet {SNIPPETS.index(code) + 1}")
def test_snippets_run_and_print_what_is_shown(code, elsewhere, capsys):
    """Every Python snippet runs; where the README shows its output, that is the output."""
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert printed
    after = README.split(code)[1]
    shown = re.match(r"```\n\nIt prints:\n\n```text\n(.*?)```", after, re.DOTALL)
    if shown:
        assert shown[1] == printed


def test_the_first_call_is_answered_without_keys(elsewhere, capsys):
    """With no key set and no local server the scripted model answers."""
    exec(compile(SNIPPETS[0], "README.md", "exec"), {"__name__": "__main__"})
    assert "Nobody else could be asked." in capsys.readouterr().out


def test_the_broken_file_prints_what_is_shown(tmp_path, monkeypatch):
    """The README's example of a broken file is what the command prints."""
    lines = FILE.splitlines()
    shown = next(code for language, code in BLOCKS if language == "console" and "modelhub check" in code)
    at = int(re.search(r"models\.yaml:(\d+):", shown)[1])
    place = lines.index("    model_name: gpt-5-mini") + 1
    lines.insert(place, "    retires: {max_attempts: 3}")
    (tmp_path / "models.yaml").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    printed = re.sub(r"[ \t]+$", "", CliRunner().invoke(app, ["check"]).output, flags=re.MULTILINE)
    expected = shown.split("\n", 1)[1].replace(f"yaml:{at}:", f"yaml:{place + 1}:")
    numbers = iter(range(place - 1, place + 2))
    expected = re.sub(r"^ +\d+ \|", lambda _: f"{next(numbers):5} |", expected, flags=re.MULTILINE)
    assert expected.strip() in printed


SOME_FAULTS = (
    [] if LONG else [f"--only={name}" for name in ("overloaded", "silence", "rate_limit_long", "auth", "all_down")]
)


@pytest.mark.parametrize("options", [[], ["--stream", *SOME_FAULTS]], ids=["calls", "streams"])
def test_a_drill_loses_nothing(options, elsewhere):
    """The README's file survives every fault, also where those of plain calls meet streams."""
    result = CliRunner().invoke(app, ["drill", "primary", "--json", *options])
    drill = json.loads(result.stdout)
    assert (result.exit_code, drill["ok"], drill["counts"]["lost"]) == (0, True, 0)
    assert sum(drill["counts"].values()) >= (20 if len(options) < 2 else 5)


@pytest.mark.parametrize(("chain", "options"), [("assistant", []), ("nightly", SOME_FAULTS)])
def test_the_production_file_is_ready_with_its_keys_and_survives_every_fault(chain, options, tmp_path, monkeypatch):
    """`check --strict` passes once the keys are set, and no fault loses an answer."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "models.yaml"
    file.write_bytes((ROOT / "examples" / "models.production.yaml").read_bytes())  # its ledger is beside it
    result = CliRunner().invoke(app, ["check", "--strict"])
    assert (result.exit_code, result.stderr) == (0, "")
    drill = json.loads(CliRunner().invoke(app, ["drill", chain, "--json", "--tools", *options]).stdout)
    assert (drill["ok"], drill["counts"]["lost"]) == (True, 0)


def test_every_way_to_a_vendor_is_ready_with_its_keys(monkeypatch, tmp_path):
    """Each entry of the file with all of them; Vertex AI, without a file, if the machine has an account."""
    file = ROOT / "examples" / "vendors.yaml"
    for name in re.findall(r"\$\{(\w+)\}", file.read_text(encoding="utf-8")):
        monkeypatch.setenv(name, "any")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    result = CliRunner().invoke(app, ["check", "--strict", "--file", str(file)])
    assert (result.exit_code, result.output.count(" ready\n"), result.stderr) == (0, 15, "")
    assert " ready if this machine has a service account" in " ".join(result.output.split())


def test_the_file_of_a_litellm_proxy_is_translated(tmp_path):
    """The example for `modelhub import`; what comes out is a file that loads."""
    arguments = [
        "import",
        "litellm",
        str(ROOT / "examples" / "litellm.yaml"),
        "--output",
        str(tmp_path / "models.yaml"),
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert "chains:\n  gpt:" in (tmp_path / "models.yaml").read_text(encoding="utf-8")


class SaysJson(faults.Fault):
    """The answer in JSON, in the place of another call of the tool."""

    async def respond(self, exchange):
        """Answer."""
        exchange.answer = CannedResponse('{"article": "teapot", "euros": 12.5}')
        await super().respond(exchange)


@pytest.mark.parametrize(
    ("vendor", "left_out", "rounded"),
    [
        ("gpt", ["stop"], {}),  # a model that reasons takes none
        ("claude", [], {"response_format": "json_object -> in words"}),
        ("gemini", ["parallel_tool_calls"], {"response_format": "json_object -> in words"}),
        ("qwen", [], {"response_format": "json_object -> in words"}),
        ("ollama", ["parallel_tool_calls"], {"reasoning_effort": "low -> on"}),
    ],
)
def test_the_swapped_app_runs_on_every_vendor(vendor, left_out, rounded, capsys):
    """The app of the example, unchanged, with the file of another vendor: tool, picture, effort, length, stop, JSON."""
    module = load_example("07_swap")
    capsys.readouterr()

    async def run():
        async with FaultServer() as server:
            answer = CannedResponse("", [ToolCall("find_price", {"article": "teapot"})])
            server.script("assistant", lambda asked: SaysJson() if "12.50" in str(asked.body) else None, answer=answer)
            services = Services(clock=VirtualClock())
            config = reroute_config(ROOT / "examples" / "swap" / f"{vendor}.yaml", server)
            async with Hub.from_dict(config, environ={}, services=services) as hub:
                return await module.describe(hub.get("assistant")), server.requests()

    described, requests = run_virtual(run())
    assert described == {"article": "teapot", "euros": 12.5}
    assert all("iVBORw0KGgo" in str(request.body) and "find_price" in str(request.body) for request in requests)
    line = f"assistant: left out {left_out}, rounded {rounded}"
    assert capsys.readouterr().out.splitlines() == [line] * 2


def load_example(name):
    """Run the example *name* and return its module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "examples").glob("*.py")))
def test_examples_run(name, capsys):
    """Every example runs as it stands and prints what its reader expects."""
    load_example(name)
    printed = capsys.readouterr().out
    for line in EXPECTED[name]:
        assert line in printed
