"""A configuration whose models all speak to the fault server."""

from pathlib import Path

import pytest

from modelhub import ConfigError, Hub, Overloaded
from modelhub.config.load import load_dict
from modelhub.testing import FaultServer, faults, reroute_config, run_virtual
from modelhub.testing.reroute import STAND_IN_KEY
from tests.tables import table

ROOT = Path(__file__).parents[2]
EVERYTHING = {
    "version": 1,
    "defaults": {"timeout": {"first_token": "7s"}, "retry": {"max_attempts": 1}},
    "limits": {"tier": {"requests_per_minute": 500, "concurrency": 2}},
    "models": {
        "gpt": {"provider": "openai", "model_name": "gpt-5-mini", "api_key": "${OPENAI_API_KEY}", "limit": "tier"},
        "deepseek": {
            "provider": "openai",
            "model_name": "${MODEL}",
            "base_url": "https://api.deepseek.com",
            "api_key": "${file:/nowhere/key}",
        },
        "azure": {
            "provider": "openai",
            "model_name": "deployment",
            "client_type": "azure",
            "base_url": "https://mine.openai.azure.com",
            "client_args": {"azure_ad_token": "sk-real-token"},
        },
        "gateway": {
            "provider": "openai",
            "model_name": "x",
            "client_args": {"base_url": "https://gateway.example/v1", "default_headers": {"x-team": "a"}},
        },
        "claude": {
            "provider": "anthropic",
            "model_name": "claude-sonnet-5",
            "client_args": {"auth_token": "sk-real-token"},
            "limit": "tier",
            "timeout": {"idle": "3s"},
        },
        "qwen": {"provider": "dashscope", "model_name": "qwen-plus", "base_url": "https://dashscope.example/api/v1"},
        "qwen-eyes": {"provider": "dashscope", "model_name": "qwen-vl-plus"},
        "llama": {"provider": "ollama", "model_name": "llama3", "base_url": "http://ollama.example:11434"},
        "gemini": {"provider": "gemini", "model_name": "gemini-3-flash", "api_key": "AIza-real-key"},
        "vertex": {
            "provider": "gemini",
            "model_name": "gemini-3-pro",
            "client_args": {"vertexai": True, "project": "p", "location": "eu"},
        },
        "offline": {"provider": "scripted", "reply": "I am offline."},
    },
    "chains": {"primary": {"models": ["gpt", "claude", "offline"], "deadline": "90s"}},
}


@pytest.mark.parametrize("loaded", [False, True], ids=["dict", "loaded"])
def test_every_model_answers_at_its_own_route(loaded):
    """Whatever address, credentials or way there an entry had: it asks the server, by its own name."""
    config = load_dict(EVERYTHING, environ={"MODEL": "deepseek-chat"}) if loaded else EVERYTHING

    async def main():
        async with FaultServer("Here.") as server, Hub.from_dict(reroute_config(config, server), environ={}) as hub:
            texts = {name: (await hub.get(name)("hi", stream=True)).final() for name in EVERYTHING["models"]}
            return {name: (await text).text for name, text in texts.items()}, server.requests()

    texts, log = run_virtual(main())
    assert texts == {name: "I am offline." if name == "offline" else "Here." for name in EVERYTHING["models"]}
    assert [one.route for one in log] == [name for name in EVERYTHING["models"] if name != "offline"]
    assert not any("real" in str((one.headers, one.body, one.path)) for one in log)
    wires = {one.route: one.wire for one in log}
    assert wires["azure"] == "openai"
    assert wires["vertex"] == "gemini"


def test_the_policy_stays_as_it_is():
    """Defaults, limits, layers and chains are the file's; only addresses and keys change."""

    async def main():
        async with FaultServer() as server:
            return reroute_config(EVERYTHING, server, environ={"MODEL": "deepseek-reasoner"})

    found, before = run_virtual(main()), load_dict(EVERYTHING, environ={})
    after = load_dict(found, environ={})
    for name, entry in before.models.items():
        assert after.models[name].layers == entry.layers, name
    assert (dict(after.chains), dict(after.limits)) == (dict(before.chains), dict(before.limits))
    assert found["models"]["deepseek"]["model_name"] == "deepseek-reasoner"
    assert found["models"]["deepseek"]["compat"] == "deepseek"
    assert found["models"]["gateway"]["client_args"] == {"default_headers": {"x-team": "a"}}
    assert {entry.get("api_key", STAND_IN_KEY) for entry in found["models"].values()} == {STAND_IN_KEY}
    assert EVERYTHING["models"]["gemini"]["api_key"] == "AIza-real-key"


def test_the_projects_own_file_survives_without_keys():
    """`models.yaml` as it stands: every model down but the last, and the chain still answers."""

    async def main():
        async with FaultServer() as server:
            config = reroute_config(ROOT / "models.yaml", server)
            async with Hub.from_dict(config, environ={}) as hub:
                for name, entry in hub.loaded.models.items():
                    if entry.provider != "scripted":
                        server.script(name, faults.status(503))
                return await hub.get("primary")("hi")

    assert run_virtual(main()).model == "offline"


def test_what_is_wrong_with_a_file_is_told_as_ever(tmp_path):
    """A file's problems come with their places, and a missing file by its name."""
    path = tmp_path / "models.yaml"
    path.write_text("version: 1\nmodels:\n  gpt: {provider: opnai, model_name: x}\n")

    async def main(config):
        async with FaultServer() as server:
            reroute_config(config, server)

    with pytest.raises(ConfigError, match=r"models\.yaml:3:.*opnai"):
        run_virtual(main(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        run_virtual(main(str(tmp_path / "nowhere.yaml")))


def test_what_was_loaded_without_its_variables_answers_too():
    """A name that is not set, and text that only looks like a reference, are taken as they stand."""
    entry = {"provider": "openai", "model_name": "${MODEL}", "generate_kwargs": {"user": "$${MODEL}"}}
    loaded = load_dict({"version": 1, "models": {"gpt": entry}}, environ={})

    async def main():
        async with FaultServer() as server, Hub.from_dict(reroute_config(loaded, server), environ={}) as hub:
            await hub.get("gpt")("hi")
            return server.requests("gpt")[0].body

    body = run_virtual(main())
    assert (body["model"], body["user"]) == ("${MODEL}", "${MODEL}")


def test_a_model_that_could_not_be_read_cannot_be_rerouted():
    """What was loaded without a variable it is made of has nothing to change."""
    loaded = load_dict({"version": 1, "models": {"gpt": {"provider": "${KIND}", "model_name": "x"}}}, environ={})

    async def main():
        async with FaultServer() as server:
            reroute_config(loaded, server)

    with pytest.raises(ConfigError, match="`gpt` cannot be rerouted: set KIND"):
        run_virtual(main())


def test_a_pool_is_still_shared():
    """Models that name one limit wait for each other at the server too."""

    async def main():
        config = {**EVERYTHING, "limits": {"tier": {"concurrency": 1, "max_queue": 0}}}
        async with FaultServer() as server:
            found = reroute_config(config, server)
            assert found["models"]["gpt"]["limit"] == found["models"]["claude"]["limit"] == "tier"
            server.script("gpt", faults.status(503))
            async with Hub.from_dict(found, environ={}) as hub:
                with pytest.raises(Overloaded):
                    await hub.get("gpt")("hi")

    run_virtual(main())


@table(
    ("name", "words"),
    [("gtp", r"no model is called `gtp`: did you mean `gpt`\? \(there are: gpt\)"), ("x", r"`x` \(there are: gpt\)")],
)
def test_a_script_for_a_name_that_the_file_does_not_have_is_told(name, words):
    """A fault that nobody would meet; models made by hand have asked for their addresses."""

    async def main():
        async with FaultServer() as server:
            server.script("early", faults.status(503))
            server.url("by hand")
            reroute_config({"version": 1, "models": {"gpt": {"provider": "ollama", "model_name": "m"}}}, server)
            for known in ("gpt", "early", "by hand"):
                server.script(known, faults.status(503))
            with pytest.raises(ValueError, match=words):
                server.script(name, faults.status(503))

    run_virtual(main())
