"""Values from files and commands are renewed every so often, and when a vendor refuses a key."""

import asyncio
import shlex
import sys

import pytest

from modelhub import AuthenticationFailed, CallError, ConfigError, Hub, NotConfigured
from modelhub.cli.application import app
from modelhub.core.events import Reloaded, ReloadFailed
from modelhub.testing import FaultServer, faults
from tests.tables import table


@pytest.fixture(name="key")
def _key(tmp_path):
    """A file with a key; the model sends it in a header that the server keeps."""
    key = tmp_path / "key"
    key.write_text("key-one\n")
    return key


def entry_of(server, reference, **more):
    headers = {"client_args": {"default_headers": {"x-tenant": reference}}}
    address = {"base_url": server.url("openai"), "api": "chat"}
    return {"provider": "openai", "model_name": "gpt-5-mini", "api_key": reference, **address, **headers, **more}


def keys_of(server):
    return [request.headers["x-tenant"] for request in server.requests()]


def counting(tmp_path, value="key"):
    """A command that prints *value* and how often it has run."""
    script = tmp_path / "command.py"
    script.write_text(
        "import pathlib, sys\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "runs = int(file.read_text()) + 1 if file.exists() else 1\n"
        "file.write_text(str(runs))\n"
        f"print({value!r}, runs, sep='-')\n"
    )
    return f"${{cmd:{shlex.quote(sys.executable)} -S -E {script} {tmp_path / 'runs'}}}"


@pytest.mark.parametrize("options", [{}, {"stream": True}], ids=["plain", "stream"])
async def test_a_refused_key_is_renewed_and_the_call_goes_on(file, key, options):
    """Once, at the same model, before a chain asks the next one; further calls use the new key at once."""
    async with FaultServer() as server:
        server.script("openai", [faults.status(401)], then="healthy")
        models = {"a": entry_of(server, "${file:key}", retry={"max_attempts": 1}), "b": "not asked"}
        hub = file.open(models, chains={"main": {"models": ["a", "b"]}})
        held = hub.get("main")
        key.write_text("key-two\n")
        reply = await held("hi", **options)
        reply = await reply.final() if options else reply
        assert [(attempt.model, attempt.outcome) for attempt in reply.attempts] == [
            ("a", "AuthenticationFailed"),
            ("a", "ok"),
        ]
        assert (await held("hi")).model == "a"
        assert keys_of(server) == ["key-one", "key-two", "key-two"]
        (changed,) = [event for event in file.events if isinstance(event, Reloaded)]
        assert str(changed.changes) == (
            "model `a` changed (api_key: changed; client_args.default_headers.x-tenant: changed)"
        )
        await hub.aclose()


async def test_calls_that_are_refused_together_renew_once(file, tmp_path):
    """And all of them go on with the new key."""
    async with FaultServer() as server:
        server.script("openai", lambda asked: faults.status(401) if asked.headers["x-tenant"] == "key-1" else None)
        hub = file.open({"a": entry_of(server, counting(tmp_path), retry={"max_attempts": 1})})
        replies = await asyncio.gather(*(hub.get("a")("hi") for _ in range(5)))
        assert all(reply.text for reply in replies)
        assert sorted(keys_of(server)) == ["key-1"] * 5 + ["key-2"] * 5
        assert (tmp_path / "runs").read_text() == "2"
        await hub.aclose()


async def test_a_key_that_is_simply_wrong_is_not_renewed_at_each_call(file, key, tmp_path):
    """The vendor's refusal is the answer, as ever; the file is the same, and a command is not run in a loop."""
    async with FaultServer() as server:
        server.script("openai", faults.status(401))
        hub = file.open({"a": entry_of(server, "${file:key}", breaker={"long_pause": "10ms"})})
        for _ in range(3):
            with pytest.raises(AuthenticationFailed):
                await hub.get("a")("hi")
            await asyncio.sleep(0.1)
        assert keys_of(server) == ["key-one"] * 3
        assert len([event for event in file.events if isinstance(event, Reloaded)]) == 1
        await hub.aclose()


async def test_other_keys_are_not_renewed(file, key):
    """Of a model whose key is a variable or is written out, a refusal runs nothing."""
    async with FaultServer() as server:
        server.script("openai", faults.status(401))
        hub = file.open({"a": entry_of(server, "sk-literal"), "b": {"reply": "${file:key}"}})
        with pytest.raises(AuthenticationFailed):
            await hub.get("a")("hi")
        assert not [event for event in file.events if isinstance(event, Reloaded)]
        await hub.aclose()


async def test_values_are_renewed_every_so_often(file, key, tmp_path):
    """In the background before they are due, and by the call itself when they are; what the file says is not read."""
    hub = file.open({"a": {"reply": counting(tmp_path)}}, secrets={"refresh": "10m"})
    held = hub.get("a")

    async def ask(after):
        await asyncio.sleep(after)
        return (await held("hi")).text

    assert [await ask(1), await ask(400)] == ["key-1", "key-1"]
    file.path.write_text("version: 1\nmodels: {a: {provider: scripted, reply: edited}}\n")
    assert await ask(200) == "key-2"
    assert await ask(500) == "key-2"
    await asyncio.sleep(1)
    while (tmp_path / "runs").read_text() != "3":
        await asyncio.sleep(0)
    assert await ask(1) == "key-3"
    hub.reload()
    assert await ask(10_000) == "edited"


async def test_a_renewal_that_fails_keeps_what_there_was(file, key, tmp_path):
    """It is logged with the place; when the file is back, so is its new value."""
    hub = file.open({"a": {"reply": "${file:key}"}}, secrets={"refresh": "10m"})
    held = hub.get("a")
    key.unlink()
    await asyncio.sleep(601)
    assert (await held("hi")).text == "key-one"
    (failure,) = [event for event in file.events if isinstance(event, ReloadFailed)]
    (problem,) = failure.error.problems
    assert (problem.line, problem.message) == (3, "model `a` cannot be used any more: write the file key")
    key.write_text("key-two")
    await asyncio.sleep(601)
    assert (await held("hi")).text == "key-two"


def command_of(code):
    return f"${{cmd:{shlex.quote(sys.executable)} -S -E -c {shlex.quote(code)}}}"


def test_a_command_runs_without_a_shell_once_and_its_output_is_stripped(tmp_path):
    """With the variables of the hub, in the folder of the file, and with nothing to read."""
    reply = command_of(
        "import os, sys; print(os.environ['MY'], os.getcwd(), repr(sys.stdin.read()), sys.argv, '$HOME', ';')"
    )
    config = {"version": 1, "models": {"a": {"provider": "scripted", "reply": f"{reply}"}}}
    hub = Hub.from_dict(config, environ={"MY": "mine"})
    assert hub.get("a").sync("hi").text.startswith("mine ")
    assert hub.get("a").sync("hi").text.endswith(" '' ['-c'] $HOME ;")
    hub.close()
    counted = counting(tmp_path)
    models = {name: {"provider": "scripted", "reply": counted} for name in "ab"}
    with Hub.from_dict({"version": 1, "models": models}) as hub:
        assert [hub.get(name).sync("hi").text for name in "ab"] == ["key-1", "key-1"]


@table(
    ("command", "instruction"),
    [
        (
            command_of("import sys; print('sk-half'); print('sk-error', file=sys.stderr); sys.exit(3)"),
            "its exit status is 3",
        ),
        (command_of("pass"), "print something"),
        ("${cmd:no-such-command-here --key}", r"make the command `no-such-command-here --key` run \(no such file"),
        ("${cmd:unclosed 'quote}", "make the command `unclosed 'quote` run"),
    ],
    ids=["failed", "silent", "missing", "quote"],
)
async def test_a_command_that_gives_nothing_leaves_its_model_unconfigured(command, instruction):
    """The error says what to do, and nothing that the command printed."""
    config = {"version": 1, "models": {"a": {"provider": "openai", "model_name": "m", "api_key": command}}}
    async with Hub.from_dict(config, environ={}) as hub:
        with pytest.raises(NotConfigured, match=instruction) as caught:
            await hub.get("a")("hi")
        assert "sk-" not in str(caught.value).partition("the command")[2].replace("'sk-half'", "").replace(
            "'sk-error'", ""
        )


def test_a_command_has_limited_time(tmp_path):
    """The file says how much."""
    (tmp_path / "models.yaml").write_text(
        "version: 1\nsecrets: {timeout: 100ms}\nmodels:\n"
        f'  a: {{provider: scripted, reply: "{command_of("import time; time.sleep(60)")}"}}\n'
    )
    with Hub.from_yaml(tmp_path / "models.yaml") as hub, pytest.raises(NotConfigured, match=r"end within 0\.1 s"):
        hub.get("a").sync("hi")


def test_commands_that_only_look_at_a_file_run_nothing_of_it(tmp_path, monkeypatch):
    """A file to be compared may be anybody's."""
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    reference = counting(tmp_path)
    (tmp_path / "models.yaml").write_text(f"version: 1\nmodels: {{a: {{provider: scripted, reply: '{reference}'}}}}\n")
    for command in (["diff", "models.yaml", "models.yaml"], ["explain", "a"], ["list"], ["drill", "a"], ["fit", "a"]):
        CliRunner().invoke(app, command)
    assert not (tmp_path / "runs").exists()
    assert CliRunner().invoke(app, ["check"]).exit_code == 0
    assert (tmp_path / "runs").read_text() == "1"


def test_the_section_is_shown_in_problems_and_secrets_of_commands_are_not(tmp_path):
    """A period is no secret; a key among the arguments of a command is one."""
    path = tmp_path / "models.yaml"
    path.write_text(
        "version: 1\nsecrets: {refresh: 10x}\nmodels:\n"
        "  a: {provider: openai, api_key: '${cmd:curl -u sk-abcdefgh12345678 host}', modl: 1}\n"
    )
    with pytest.raises(ConfigError) as caught:
        Hub.from_yaml(path)
    text = str(caught.value)
    assert "models.yaml:2:20: `refresh: 10x` must be a duration" in text
    assert "    2 | secrets: {refresh: 10x}\n" in text
    assert "abcdefgh" not in text
    assert "unknown key `modl`" in text


async def test_a_chain_falls_back_if_the_renewed_key_is_refused_too(file, key):
    """The model is asked twice, not more."""
    async with FaultServer() as server:
        server.script("openai", faults.status(401))
        hub = file.open({"a": entry_of(server, "${file:key}"), "b": "here"}, chains={"main": {"models": ["a", "b"]}})
        key.write_text("key-two")
        assert (await hub.get("main")("hi")).text == "here"
        assert keys_of(server) == ["key-one", "key-two"]
        await hub.aclose()


async def test_a_hub_that_renews_nothing_needs_no_time_for_it(file, key):
    """Without a period, values are read when the file is."""
    hub = file.open({"a": {"reply": "${file:key}"}})
    key.write_text("key-two")
    await asyncio.sleep(100_000)
    assert (await hub.get("a")("hi")).text == "key-one"
    with pytest.raises(CallError):
        await hub.get("a")([])
