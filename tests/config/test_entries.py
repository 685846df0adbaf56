"""Models as the file means them: defaults below entries, where values come from, what is missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import model_validator

from modelhub import registry
from modelhub.config.load import Loaded, load_dict, load_text
from modelhub.config.schema import get_keys, load_layer_options, make_defaults_class, make_entry_class
from modelhub.config.source import parse_document
from modelhub.core.errors import ConfigError, UnknownModel
from modelhub.middleware.limit.options import LimitOptions
from modelhub.options import Options, ProviderOptions, Secret
from tests.tables import table

Load = Callable[..., Loaded]
Refuse = Callable[..., ConfigError]


def test_sample(load: Load, sample: str) -> None:
    """A whole file: what every part of it becomes."""
    loaded = load(sample, ACME_KEY="k1", OTHER_KEY="k2")
    assert list(loaded.models) == ["gpt", "claude", "offline"]
    assert list(loaded.chains) == ["primary", "spare"]
    assert loaded.file == "models.yaml"
    gpt: Any = loaded.models["gpt"]
    assert (gpt.provider, gpt.line, gpt.missing) == ("acme", 12, None)
    assert type(gpt.options).__name__ == "AcmeOptions"
    assert gpt.options.arguments()["api_key"] == "k1"
    assert gpt.options.generate_kwargs == {"temperature": 0.2, "stop": ["a", "b"]}
    assert (gpt.layers["timeout"].idle, gpt.layers["timeout"].total) == (10, 120)
    assert gpt.layers["retry"].initial_wait == 0.5
    assert gpt.layers["limit"] == "tier2"
    assert gpt.layers["breaker"] is None
    assert loaded.limits["tier2"].tokens_per_minute == 200_000
    assert loaded.chains["primary"].deadline == 90
    assert loaded.lines["spare"] == 28
    assert loaded.config.version == 1


def test_loaded_is_frozen(load: Load, sample: str) -> None:
    """What was loaded does not change."""
    loaded = load(sample)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.file = "x"  # type: ignore[misc]


def test_options_have_no_layers(load: Load, sample: str) -> None:
    """The provider gets its own options, and of them only those that were set."""
    options = load(sample, ACME_KEY="k", OTHER_KEY="k").models["claude"].options
    assert options is not None
    assert set(options.arguments()) == {"model_name", "api_key", "max_tokens", "stream"}


def test_inline_limit(load: Load) -> None:
    """A limit may be written into the model: a pool of its own."""
    loaded = load("version: 1\nmodels:\n  a: {provider: scripted, reply: x, limit: {concurrency: 2}}\n")
    assert loaded.models["a"].layers["limit"] == LimitOptions(concurrency=2)


def test_inline_limit_is_checked(refuse: Refuse) -> None:
    """Its keys are known ones, with places."""
    error = refuse("version: 1\nmodels:\n  a: {provider: scripted, reply: x, limit: {concurency: 2}}\n")
    assert [str(problem).splitlines()[0] for problem in error.problems] == [
        "models.yaml:3:45: unknown key `concurency` in `limit` of model `a`"
    ]


def test_default_limit(load: Load, refuse: Refuse) -> None:
    """A limit may be a default; that it exists is checked there."""
    text = "version: 1\ndefaults: {limit: t}\nmodels: {a: {provider: scripted, reply: x}}\n"
    assert load(text + "limits: {t: {concurrency: 1}}\n").models["a"].layers["limit"] == "t"
    assert str(refuse(text).problems[0]).startswith("models.yaml:2:19: unknown limit `t` in `defaults`")


def test_null_takes_a_default_away(load: Load) -> None:
    """`null` says that nothing is said, whatever the defaults say; an empty value would be a mistake."""
    text = "version: 1\ndefaults: {retry: {max_attempts: 5}}\nmodels: {a: {provider: scripted, reply: x, retry: null}}"
    assert load(text).models["a"].layers["retry"] is None


def test_other_names_of_a_key(load: Load, refuse: Refuse) -> None:
    """A key may bear a later name, but not both."""
    text = "version: 1\nmodels:\n  a:\n    provider: acme\n    model_name: a\n    client_kwargs: {x: 1}\n"
    options: Any = load(text).models["a"].options
    assert options.client_args == {"x": 1}
    assert "unknown key" in str(refuse(text + "    client_args: {x: 1}\n"))


def test_anchors(load: Load) -> None:
    """Entries may share parts by YAML's own means; a problem in them is told where it is written."""
    loaded = load(
        "version: 1\nmodels:\n  a: &a\n    provider: acme\n    model_name: a\n    api_key: k\n"
        "    retry: &r {max_attempts: 2}\n"
        "  b: {<<: *a, model_name: b}\n  c: {provider: scripted, reply: x, retry: *r}\n"
    )
    assert [entry.options.model_name for entry in loaded.models.values() if entry.options] == ["a", "b", "scripted"]
    assert (
        loaded.models["a"].layers["retry"] == loaded.models["b"].layers["retry"] == loaded.models["c"].layers["retry"]
    )


@table(
    ("entry", "environ", "missing"),
    [
        ("", {}, "set ACME_API_KEY"),
        ("", {"ACME_API_KEY": ""}, "set ACME_API_KEY"),
        ("", {"ACME_API_KEY": "k"}, None),
        (", api_key: k", {}, None),
        (", api_key: ''", {}, "set ACME_API_KEY"),
        (", api_key: ''", {"ACME_API_KEY": "k"}, None),
        (", api_key: '${MINE}'", {"ACME_API_KEY": "k"}, "set MINE"),
        (", api_key: '${MINE:-}'", {"ACME_API_KEY": "k"}, None),
        (", base_url: '${URL}'", {}, "set URL and ACME_API_KEY"),
    ],
)
def test_missing_key(load: Load, entry: str, environ: dict[str, str], missing: str | None) -> None:
    """Without a key of its own a provider takes the vendor's variable; an empty key is no key."""
    loaded = load(f"version: 1\nmodels:\n  a: {{provider: acme, model_name: a{entry}}}\n", **environ)
    assert missing == loaded.models["a"].missing


def test_origins(load: Load, sample: str) -> None:
    """Every value tells where it comes from, and secrets stay hidden."""
    loaded = load(sample.replace("${OTHER_KEY}", "k-literal"), ACME_KEY="hunter2")
    told = {origin.path: (origin.shown, origin.source, origin.line) for origin in loaded.list_origins("gpt")}
    assert told["api_key"] == ("${ACME_KEY}", "entry", 15)
    assert told["timeout.idle"] == ("10s", "entry", 18)
    assert told["timeout.total"] == ("120s", "defaults", 4)
    assert told["retry.max_attempts"] == ("3", "defaults", 6)
    assert told["retry.max_retry_after"] == ("10s", "built-in default", 0)
    assert told["max_tokens"] == ("2048", "built-in default", 0)
    assert told["generate_kwargs.temperature"] == ("0.2", "entry", 19)
    assert told["limit"] == ("tier2", "entry", 17)
    assert {origin.path: origin.shown for origin in loaded.list_origins("claude")}["api_key"] == "***"
    assert "hunter2" not in str(loaded.list_origins("gpt"))


def test_origins_of_a_chain(load: Load, sample: str) -> None:
    """Chains have origins too."""
    told = {origin.path: (origin.shown, origin.source) for origin in load(sample).list_origins("primary")}
    assert told["deadline"] == ("90s", "entry")
    assert told["models.1"] == ("claude", "entry")
    assert told["on_broken_stream"] == ("restart", "built-in default")


def test_origins_show_numbers_from_outside(load: Load) -> None:
    """A number from a variable is shown beside its reference, text is not."""
    text = (
        "version: 1\nmodels:\n  a: {provider: acme, model_name: '${M}', max_tokens: '${N}', timeout: {total: '${T}'}}\n"
    )
    shown = {origin.path: origin.shown for origin in load(text, M="secret-name", N="5", T="9s").list_origins("a")}
    assert (shown["model_name"], shown["max_tokens"], shown["timeout.total"]) == ("${M}", "5 (${N})", "9s (${T})")


def test_origins_of_what_is_not_there(load: Load, sample: str) -> None:
    """A reference that leads nowhere has its place too."""
    told = {origin.path: (origin.shown, origin.line) for origin in load(sample).list_origins("gpt")}
    assert told["api_key"] == ("${ACME_KEY}", 15)


def test_origins_of_nobody(load: Load, sample: str) -> None:
    """An unknown name says what was probably meant."""
    with pytest.raises(UnknownModel, match="no model or chain `gtp`; did you mean `gpt`"):
        load(sample).list_origins("gtp")


def test_dict_and_text_agree(load: Load, sample: str) -> None:
    """The same configuration from a dict is the same."""
    environ = {"ACME_KEY": "k", "OTHER_KEY": "k"}
    by_text = load(sample, **environ)
    by_dict = load_dict(parse_document(sample, "")[0].data, environ=environ)
    assert by_dict.file == ""
    for name, entry in by_text.models.items():
        assert dataclasses.replace(entry, line=0) == by_dict.models[name]


def test_dict_is_not_changed() -> None:
    """The caller's dict stays as it was, and objects in it reach the options untouched."""
    client = object()
    data = {"version": 1, "models": {"a": {"provider": "acme", "model_name": "a", "client_args": {"http": client}}}}
    options: Any = load_dict(data, environ={}).models["a"].options
    assert options.client_args["http"] is client
    assert data["models"]["a"]["client_args"] == {"http": client}  # type: ignore[index]


def test_every_layer_may_be_a_default() -> None:
    """Whatever layer an entry can set, the defaults can."""
    assert set(load_layer_options()) | {"stream", "ask"} == set(make_defaults_class().model_fields)
    assert set(load_layer_options()) < set(get_keys(make_entry_class("acme")))


def test_option_with_the_name_of_a_layer(monkeypatch: pytest.MonkeyPatch, refuse: Refuse) -> None:
    """A third party's option that would hide a layer is refused at the entry that names it."""
    from modelhub import registry
    from modelhub.options import ProviderOptions

    class Odd(ProviderOptions):
        retry: int = 0

    monkeypatch.setitem(registry.PROVIDERS, "odd", "x:Odd")
    monkeypatch.setattr("modelhub.registry.load_target", lambda target: Odd)
    error = refuse("version: 1\nmodels:\n  a: {provider: odd, model_name: a}\n")
    assert str(error).startswith("models.yaml:3:17: provider `odd`: its option `retry` has the name of a layer")


class LateOptions(ProviderOptions):
    """A provider whose options name a class that stands below them."""

    voice: LateVoice | None = None
    """How it sounds."""


class LateVoice(Options):
    """How loud."""

    loud: bool = False
    """Whether it is."""


def test_a_class_is_looked_at_anew_when_it_is_complete(monkeypatch: pytest.MonkeyPatch, refuse: Refuse) -> None:
    """What was known of it before is not kept: its values are checked like all others."""
    monkeypatch.setitem(registry.PROVIDERS, "late", f"{__name__}:LateOptions")
    assert "voice" in get_keys(LateOptions)
    LateOptions.model_rebuild()
    error = refuse("version: 1\nmodels:\n  a: {provider: late, model_name: a, voice: {loud: 1}}\n")
    assert "`loud: 1` must be true or false" in str(error)
    assert get_keys(LateOptions)["voice"] is LateOptions.model_fields["voice"]


class RangeOptions(ProviderOptions):
    """A provider two of whose options belong together."""

    api_key: Secret
    """The key."""
    low: int = 1
    """The lowest."""
    high: int = 2
    """The highest."""

    @model_validator(mode="after")
    def check_order(self) -> RangeOptions:
        if self.low > self.high:
            raise ValueError(f"`low` is over `high` for {self.api_key.get_secret_value()}")
        return self


def test_a_validator_of_a_whole_entry_reports_a_problem(monkeypatch: pytest.MonkeyPatch, refuse: Refuse) -> None:
    """What it says stands at the entry, without the key."""
    monkeypatch.setitem(registry.PROVIDERS, "range", f"{__name__}:RangeOptions")
    error = refuse("version: 1\nmodels:\n  a: {provider: range, model_name: m, low: 3, api_key: kkkkkkkk}\n")
    assert "models.yaml:3:6: `a`: `low` is over `high` for ***" in str(error)
    assert "kkkk" not in str(error)


def test_shipped_file_loads(shipped: str) -> None:
    """The project's own file is good, and without any key only says what to set."""
    for entry in load_text(shipped, environ={}).models.values():
        assert entry.missing is None or entry.missing.startswith("set ")
