"""A secret is never shown, however broken the file is.

MODELHUB_LONG=1 tries twice as many broken files.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelhub import Hub
from modelhub.config.load import load_text
from modelhub.config.secrets import is_secret, redact_text
from modelhub.core.errors import ConfigError
from tests.tables import table

LONG = bool(os.environ.get("MODELHUB_LONG"))
Refuse = Callable[..., ConfigError]


@table(
    "name",
    [
        "api_key",
        "apiKey",
        "apikey",
        "api_kye",
        "ap_key",
        "azure_ad_token",
        "client_secret",
        "password",
        "passwrod",
        "Authorization",
        "Authorisation",
        "x-api-key",
        "X-Auth",
        "default_headers",
        "extra_headers",
        "token",
        "credentials",
    ],
)
def test_secret_names(name: str) -> None:
    """These keys hold secrets, also when they are misspelt."""
    assert is_secret(name)


@table(
    "name",
    [
        "max_tokens",
        "first_token",
        "tokens_per_minute",
        "budget_tokens",
        "model_name",
        "base_url",
        "provider",
        "retry",
        "keep_alive",
        "api_version",
        "organization",
        "timeout",
        "monkey",
    ],
)
def test_other_names(name: str) -> None:
    """These keys hold none: hiding them would hide the mistake."""
    assert not is_secret(name)


def test_mask_keeps_the_columns_before(refuse: Refuse) -> None:
    """The line is shown with `***` for the key's value, and the caret where the mistake is."""
    text = 'version: 1\nmodels:\n  gpt: {provider: acme, api_key: "very secret thing", model_name: a, streem: true}\n'
    line, caret = refuse(text).problems[0].excerpt.splitlines()[-2:]
    assert line == "    3 |   gpt: {provider: acme, api_key: ***, model_name: a, streem: true}"
    assert caret.index("^") == line.index("streem")


def test_references_are_shown(refuse: Refuse) -> None:
    """`${VAR}` is no secret, and helps; its default may be one."""
    text = (
        "version: 1\nmodels:\n  gpt:\n    provider: acme\n    api_key: ${ACME_KEY}   # from the vault\n    streem: 1\n"
    )
    assert "    5 |     api_key: ${ACME_KEY}   # from the vault\n" in str(refuse(text))
    assert "hunter2" not in str(refuse(text.replace("${ACME_KEY}", "${ACME_KEY:-hunter2}")))


@table(
    "lines",
    [
        "    api_key: |\n      hunter2-hunter2\n    streem: true\n",
        "    api_key: >-\n      hunter2-hunter2\n    streem: true\n",
        "    api_key: hunter\n      hunter2-hunter2\n    streem: true\n",
        "    api_key: 'hunter\n      hunter2-hunter2'\n    streem: true\n",
        '    api_key: "hunter\n    foo: hunter2-hunter2\n    bar: x"\n    streem: true\n',
        "    client_args: {default_headers: {X-Any: hunter2-hunter2}}\n    streem: true\n",
        "    client_args:\n      default_headers:\n        X-Any: hunter2-hunter2\n    streem: true\n",
        "    # api_key: hunter2-hunter2\n    streem: true\n",
        "    api_key: abc #hunter2-hunter2\n    streem: true\n",
        "    api_key: [hunter2-hunter2]\n    streem: true\n",
        "    api_key: {env: hunter2-hunter2}\n",
        "    api_kye: hunter2-hunter2\n",
        "    secret: hunter2-hunter2\n",
        "    api_key: !hunter2-hunter2 x\n",
        "    api_key: *hunter2-hunter2\n",
        "    api_key: &hunter2-hunter2\n",
        "    api_key: @hunter2-hunter2\n",
        "    api_key: %hunter2-hunter2\n",
        "    api_key: hunter: hunter2-hunter2\n",
        "    api_key: 'hunter2-hunter2\n",
        "    api_key:hunter2-hunter2\n    streem: true\n",
        "    api_key: ${hunter2-hunter2}\n",
        "    api_key: $HUNTER\n    password: x${hunter2-hunter2\n",
        "   api_key: hunter2-hunter2\n",
        "      api_key: hunter2-hunter2\n",
        "\tapi_key: hunter2-hunter2\n",
        "    api_key: a\n    api_key: |\n      x\n      hunter2-hunter2\n    streem: 1\n",
        "    base_url: https://user:hunter2-hunter2@host/\n    streem: true\n",
        "    base_url: https://host/?api_key=hunter2-hunter2\n    streem: true\n",
        "    x: Bearer hunter2-hunter2\n",
        "    x: sk-hunter2-hunter2\n",
    ],
)
def test_shapes_of_secrets(refuse: Refuse, lines: str) -> None:
    """A secret in any shape YAML has, or in a file that is no YAML, is not shown."""
    text = (
        f"version: 1\nmodels:\n  gpt:\n    provider: acme\n    model_name: a\n{lines}chains: {{c: {{models: [x]}}}}\n"
    )
    assert "hunter2-hunter2" not in str(refuse(text))


def test_interpolated_values_are_not_shown(refuse: Refuse) -> None:
    """What a variable holds is in no message, only how it was written."""
    text = (
        "version: 1\nmodels:\n  gpt:\n    provider: ${A}\n    model_name: a\n"
        "  two:\n    provider: acme\n    model_name: b\n    max_tokens: ${A}\n    effort: ${A}\n    limit: ${A}\n"
        "    stream: ${A}\n    timeout: {total: '${A}'}\n    retry: {max_attempts: 'x${A}'}\n"
        "limits: {t: {concurrency: '${A}'}}\n"
        "chains:\n  c:\n    models: ['${A}']\n"
    )
    told = str(refuse(text, {"A": "hunter2"}))
    assert "hunter2" not in told
    assert "9 problems" in told
    assert "`max_tokens: ${A}` must be a whole number" in told
    assert "unknown provider `${A}`" in told


def test_duration_hint_does_not_tell_a_variable(refuse: Refuse) -> None:
    """The suggestion is made of the value, so it is left out where the value came from outside."""
    text = "version: 1\nmodels:\n  gpt: {provider: acme, model_name: a, timeout: {total: '${T}'}}\n"
    assert "234" not in str(refuse(text, {"T": "234000000"}))


def test_secrets_are_hidden_in_reprs(load: Callable[..., object]) -> None:
    """What was loaded does not show the key when printed."""
    text = "version: 1\nmodels:\n  gpt:\n    provider: acme\n    model_name: a\n    api_key: hunter2\n"
    text += "    client_args: {headers: {A: hunter2}}\n"
    assert "hunter2" not in repr(load(text))


@table("provider", ["openai", "anthropic", "dashscope", "gemini", "ollama"])
def test_a_hub_and_its_configuration_show_no_address_with_a_password_and_no_header(provider: str) -> None:
    """Nor does what the hub is built from: a report of a crash shows all of it."""
    headers = {"headers": {"X-Gateway": "hunter2"}}
    entry = {"provider": provider, "model_name": "a", "base_url": "http://u:hunter2@h", "generate_kwargs": headers}
    hub = Hub.from_dict({"version": 1, "models": {"m": entry}})
    hub.get("m")
    config = hub.loaded.config
    shown = [repr(part) for part in (hub, hub.loaded, config, config.models, hub.services, *vars(hub).values())]
    assert "hunter2" not in "".join(shown)
    assert "model_name='a'" in repr(config.models)


@table(
    ("text", "safe"),
    [
        ("plain text", "plain text"),
        ("a  b\nc", "a b c"),
        ("x" * 80, "x" * 57 + "..."),
        ("api_key: abc", "api_key: ***"),
    ],
)
def test_shown(text: str, safe: str) -> None:
    """Text in a message is short, on one line and without secrets."""
    assert safe == redact_text(text)


@table("quote", ["'", '"'])
@table("rest", ["#7vX", " # 7vX", ""])
def test_a_secret_in_a_quote_that_was_not_closed_above_it(quote: str, rest: str) -> None:
    """The key is a piece of another value then, and stays hidden where a mistake below it shows its surroundings."""
    text = f"version: 1\nmodels:\n  gpt:\n    provider: scripted\n    reply: {quote}y\n    api_key: |\n"
    text += f"      Zq9{quote}{rest}\nchains: {{c: {{models: [x]}}}}\n"
    with pytest.raises(ConfigError) as caught:
        load_text(text, environ={})
    assert "unknown model `x`" in str(caught.value)
    assert not {"Zq9", "7vX"} & set(re.findall("Zq9|7vX", str(caught.value)))


SECRETS = st.text(string.ascii_letters + string.digits + "-_+/=.:#&*!%@{}[]'\"|>, ", min_size=9, max_size=40).map(
    lambda text: f"Zq9{text}7vX"
)
PLACES = ["    api_key: {}", "    client_args: {{default_headers: {{Authorization: {}}}}}", "    password: {}"]
QUOTES = ["{}", "'{}'", '"{}"', "|\n      {}", "{}  # comment", "'{}"]
BREAKS = ["    streem: true", "   odd: 1", "    - x", "    x: 'y", "    {", "\tx: 1", "    provider: acme", "  y"]


@settings(max_examples=300 if LONG else 60, deadline=None)
@given(SECRETS, st.sampled_from(PLACES), st.sampled_from(QUOTES), st.sampled_from(BREAKS), st.booleans())
def test_any_secret_in_any_broken_file(secret: str, place: str, quote: str, broken: str, above: bool) -> None:
    """Neither end of a secret is in the error of a broken file, whatever it is made of and whatever is broken."""
    line = place.format(quote.format(secret))
    body = f"{broken}\n{line}\n" if above else f"{line}\n{broken}\n"
    text = f"version: 1\nmodels:\n  gpt:\n    provider: acme\n    model_name: a\n{body}chains: {{c: {{models: [x]}}}}\n"
    with pytest.raises(ConfigError) as caught:
        load_text(text, environ={})
    assert "Zq9" not in str(caught.value)
    assert "7vX" not in str(caught.value)


def test_keys_in_the_query_of_an_address_are_hidden() -> None:
    """Signed links, and clients' `default_query`, carry keys under names that say nothing of it."""
    entry = (
        "version: 1\nmodels:\n  m:\n    provider: openai\n    model_name: a\n    api_key: ${KEY}\n"
        "    base_url: https://h.example/v1?api-version=2024-06&sig=hunter2%2Fx\n"
        "    client_args: {default_query: {code: hunter2}}\n"
    )
    loaded = load_text(entry, environ={"KEY": "k-of-nobody"})
    shown = {origin.path: origin.shown for origin in loaded.list_origins("m")}
    assert shown["base_url"] == "https://h.example/v1?api-version=2024-06&sig=***"
    assert shown["client_args.default_query.code"] == "***"
    with pytest.raises(ConfigError) as caught:
        load_text(f"{entry}    streem: true\n", environ={"KEY": "k-of-nobody"})
    assert "hunter2" not in str(caught.value)
