"""Providers and layers of third parties: installed, named in a file, checked, called; and what broken ones lead to."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from modelhub import ConfigError, Hub, registry
from modelhub.cli.application import app
from modelhub.cli.exit import Exit
from modelhub.config.jsonschema import build_file_schema
from modelhub.testing.contract import provider_contract

ROOT = Path(__file__).parents[2]

ACME = '''
    """Acme: a vendor of one word at a time. Everything is here, and nothing of modelhub but what is public."""

    from typing import Literal

    from modelhub import ChatModelBase, ChatResponse, ChatUsage, QuotaExhausted
    from modelhub.options import ProviderOptions, Secret


    class AcmeChatModel(ChatModelBase):
        """Answers with its own address."""

        kind = "acme"
        closed = 0

        def __init__(self, model_name, api_key=None, stream=False, base_url="http://acme.test", generate_kwargs=None):
            super().__init__(model_name, stream)
            self.base_url = base_url

        async def send(self, request):
            attempt = request.context.begin(self.name, self.kind, self.model_name)
            text = request.messages[-1].blocks[0].text
            if text == "too much":
                error = QuotaExhausted("acme said 402", model=self.name, provider=self.kind, status=402)
                request.context.end(attempt, error.kind, error)
                raise error
            request.context.end(attempt, "ok")
            return ChatResponse(
                [{"type": "text", "text": f"{self.base_url} heard: {text}"}],
                usage=ChatUsage(1, 2), finish_reason="stop", model=self.name, attempts=request.context.attempts,
            )


    class AcmeOptions(ProviderOptions):
        """A model of Acme's."""

        provider: Literal["acme"] = "acme"
        """Acme."""
        api_key: Secret | None = None
        """The key to Acme."""
        base_url: str = "http://acme.test"
        """Where Acme is."""

        key_variables = ("ACME_API_KEY",)

        def connect(self):
            """The model."""
            return AcmeChatModel(**self.arguments())
'''

SHOUT = '''
    """A layer that shouts."""

    from modelhub import ChatResponse, Layer
    from modelhub.options import LayerOptions


    class ShoutOptions(LayerOptions):
        """How loud the answer is."""

        marks: int = 1
        """How many exclamation marks."""


    class Shout(Layer):
        """Shouts what the model below says."""

        Options = ShoutOptions

        @classmethod
        def wrap(cls, inner, options, shared):
            """Only whoever wants it shouts."""
            if options is None:
                return inner
            layer = cls(inner)
            layer.marks = options.marks
            return layer

        async def send(self, request):
            reply = await self.inner.send(request)
            reply.content = [{"type": "text", "text": reply.text.upper() + "!" * self.marks}]
            return reply
'''

FILE = """\
version: 1
models:
  theirs:
    provider: acme
    model_name: acme-1
    api_key: ${ACME_API_KEY}
    base_url: http://acme.example
    shout: {marks: 3}
  behind: {provider: scripted, reply: hello}
chains:
  both: {models: [theirs, behind]}
"""


@pytest.fixture
def installed(site):
    """Acme's provider and the shouting layer, of two distributions."""
    site.install("acme-models", providers=["acme = acme_models:AcmeOptions"], acme_models=ACME)
    site.install("acme-shout", middleware=["shout = acme_shout:Shout"], acme_shout=SHOUT)
    return site


@pytest.fixture
def file(tmp_path):
    """A file that names both."""
    path = tmp_path / "models.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


async def test_a_file_names_a_third_partys_provider_and_layer(installed, file, caplog):
    """An installed provider and layer are used as the built-in ones are, by their names in the file."""
    async with Hub.from_yaml(file, environ={"ACME_API_KEY": "k-acme-0001"}) as hub:
        reply = await hub.get("theirs")("hello")
        assert reply.text == "HTTP://ACME.EXAMPLE HEARD: HELLO!!!"
        assert (reply.model, reply.attempts[0].model, reply.attempts[0].provider) == ("theirs", "theirs", "acme")
        both = await hub.get("both")("too much")
        assert (both.text, [attempt.outcome for attempt in both.attempts][-1]) == ("hello", "ok")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_third_partys_layer_stands_below_usage(installed):
    """Layers of third parties have one place in the order, whatever they are."""
    assert [spec.key for spec in registry.list_layers()][:3] == ["pricing", "shout", "deadline"]


def test_a_third_partys_options_are_checked_like_ours(installed, file):
    """Wrong values and unknown keys of theirs are located in the file, all at once."""
    file.write_text(FILE.replace("marks: 3", "mark: 3").replace("base_url:", "base_ulr:"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Hub.from_yaml(file, environ={})
    assert [(problem.line, problem.hint) for problem in caught.value.problems] == [
        (7, "did you mean `base_url`?"),
        (8, "did you mean `marks`?"),
    ]


def test_a_third_partys_key_may_be_missing(installed, file):
    """A model of theirs without its key is not configured, and says which variable to set."""
    hub = Hub.from_yaml(file, environ={})
    with pytest.raises(Exception, match="ACME_API_KEY"):
        asyncio.run(hub.get("theirs")("hello"))


def test_the_schema_knows_what_is_installed(installed):
    """Editors complete a third party's keys; the schema that is shipped has only what is built in."""
    schema = build_file_schema(builtin_only=False)
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    good = {"provider": "acme", "model_name": "a", "base_url": "http://x", "shout": {"marks": 2}}
    assert check.is_valid({"version": 1, "models": {"m": good}})
    assert not check.is_valid({"version": 1, "models": {"m": {**good, "shout": {"mark": 2}}}})
    assert not check.is_valid({"version": 1, "models": {"m": {**good, "base_ulr": "http://x"}}})
    shipped = json.dumps(build_file_schema(builtin_only=True))
    assert "acme" not in shipped
    assert "shout" not in shipped


def test_check_and_explain_know_what_is_installed(installed, file, monkeypatch):
    """The commands see what pip has installed, also in a process of their own."""
    monkeypatch.setenv("ACME_API_KEY", "k-acme-0001")
    checked = CliRunner().invoke(app, ["check", "--json", "--file", str(file)])
    assert checked.exit_code == 0, checked.output
    assert next(one for one in json.loads(checked.stdout)["models"] if one["name"] == "theirs")["provider"] == "acme"
    environ = {"PYTHONPATH": f"{installed.path}:{ROOT}", "PATH": "/usr/bin:/bin", "ACME_API_KEY": "k-acme-0001"}
    command = [sys.executable, "-W", "error", "-m", "modelhub", "explain", "theirs", "--file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "shout" in done.stdout
    assert "k-acme-0001" not in done.stdout


LIKE_OPENAI = '''
    """A vendor that speaks like OpenAI."""

    from typing import Literal

    from modelhub import OpenAIChatModel
    from modelhub.options import ProviderOptions, Secret


    class LikeChatModel(OpenAIChatModel):
        """Another name for the same."""

        kind = "like"


    class LikeOptions(ProviderOptions):
        """A model of theirs."""

        provider: Literal["like"] = "like"
        """Theirs."""
        api_key: Secret | None = None
        """The key."""
        base_url: str | None = None
        """Where they are."""

        def connect(self):
            """The model."""
            return LikeChatModel(**self.arguments())
'''


async def test_a_third_party_runs_the_contract_on_its_own(site):
    """With a folder of fixtures, the same checks run over an installed provider as over those that are built in."""
    site.install("like-openai", providers=["like = like_openai:LikeOptions"], like_openai=LIKE_OPENAI)
    checks = provider_contract("like", ROOT / "tests" / "contract" / "fixtures" / "openai")
    assert len(checks) > 40
    for check in checks if os.environ.get("MODELHUB_LONG") else checks[::4]:
        await check()


BROKEN = {
    "a module that is not there": ("gone = acme_gone:GoneOptions", {}, "No module named 'acme_gone'"),
    "a class that is not there": ("gone = acme_empty:GoneOptions", {"acme_empty": ""}, "GoneOptions"),
    "a module that fails": ("gone = acme_fails:GoneOptions", {"acme_fails": "raise OSError('no wind')"}, "no wind"),
    "no class at all": ("gone = acme_odd:thing", {"acme_odd": "thing = 7"}, "must name a"),
}


@pytest.mark.parametrize(("point", "modules", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_provider_is_a_config_error(site, point, modules, words):
    """A provider that cannot be loaded says whose it is and why, when a file names it and not before."""
    site.install("acme-broken", providers=[point], **modules)
    assert "gone" in registry.list_providers()
    Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted"}}})
    with pytest.raises(ConfigError) as caught:
        Hub.from_dict({"version": 1, "models": {"m": {"provider": "gone", "model_name": "x"}}})
    assert words in str(caught.value)
    assert "acme-broken" in str(caught.value)


@pytest.mark.parametrize(("point", "modules", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_layer_is_a_config_error(site, point, modules, words):
    """A layer that cannot be loaded stands in every model's way: whatever the file says, the error names its owner."""
    site.install("acme-broken", middleware=[point], **modules)
    with pytest.raises(ConfigError) as caught:
        Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted"}}})
    assert words in str(caught.value)
    assert "acme-broken" in str(caught.value)


def test_check_reports_a_broken_layer(site, file):
    """The command tells it as it tells any other problem, without a traceback."""
    site.install("acme-broken", middleware=["gone = acme_gone:Gone"])
    result = CliRunner().invoke(app, ["check", "--file", str(file)])
    assert result.exit_code == Exit.CONFIG
    assert "acme-broken" in result.output
    assert isinstance(result.exception, SystemExit)


def test_options_of_a_wrong_kind_are_a_config_error(site):
    """A layer whose `Options` is no LayerOptions class is refused by name."""
    text = "from modelhub import Layer\nclass Odd(Layer):\n    Options = dict\n"
    site.install("acme-odd", middleware=["odd = acme_odd:Odd"], acme_odd=text)
    with pytest.raises(ConfigError, match=r"layer `odd` of acme-odd: its `Options` must be a LayerOptions class"):
        Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted"}}})


async def test_nobody_takes_the_place_of_what_is_built_in(site):
    """A third party's provider or layer of a built-in name is passed over: no file changes its meaning."""
    site.install(
        "acme-usurper",
        providers=["scripted = acme_models:AcmeOptions"],
        middleware=["retry = acme_shout:Shout"],
        acme_models=ACME,
        acme_shout=SHOUT,
    )
    assert [spec.plugin for spec in registry.list_layers()] == [None] * len(registry.LAYERS)
    async with Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted", "reply": "hello"}}}) as hub:
        assert (await hub.get("m")("x")).text == "hello"


def test_two_third_parties_of_one_name_are_told_apart(site):
    """Which one would be meant, nobody can know: the error names both."""
    site.install("acme-models", providers=["acme = acme_models:AcmeOptions"], acme_models=ACME)
    site.install("other-acme", providers=["acme = other_acme:AcmeOptions"], other_acme=ACME)
    Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted"}}})
    with pytest.raises(ConfigError, match=r"`acme` is provided by acme-models and other-acme"):
        Hub.from_dict({"version": 1, "models": {"m": {"provider": "acme", "model_name": "x"}}})
