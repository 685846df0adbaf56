"""`${VAR}`, `${VAR:-default}` and `${file:/path}`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelhub.config.load import Loaded, load_dict, load_file
from modelhub.core.errors import ConfigError
from tests.tables import table

Load = Callable[..., Loaded]
Refuse = Callable[..., ConfigError]

HEAD = "version: 1\nmodels:\n  gpt:\n    provider: acme\n    model_name: a\n    api_key: k\n"


def options(loaded: Loaded) -> Any:
    """The options of the one model."""
    return loaded.models["gpt"].options


@table(
    ("written", "environ", "value"),
    [
        ("${URL}", {"URL": "https://a"}, "https://a"),
        ("${URL:-https://b}", {}, "https://b"),
        ("${URL:-https://b}", {"URL": ""}, "https://b"),
        ("${URL:-https://b}", {"URL": "https://a"}, "https://a"),
        ("https://${HOST}:${PORT:-80}/x", {"HOST": "h"}, "https://h:80/x"),
        ("${URL:-}", {}, ""),
        ("$${URL}", {"URL": "x"}, "${URL}"),
        ("$${URL}-${URL}", {"URL": "x"}, "${URL}-x"),
        ("$URL", {"URL": "x"}, "$URL"),
        ("a$b", {}, "a$b"),
        ("${URL}", {"URL": "${OTHER}"}, "${OTHER}"),
        ("${URL:-a:-b}", {}, "a:-b"),
    ],
)
def test_text(load: Load, written: str, environ: dict[str, str], value: str) -> None:
    """A reference is replaced where it stands, once; `$${` is `${`."""
    loaded = load(HEAD + f"    base_url: {written}\n", **environ)
    assert value == options(loaded).base_url
    assert loaded.models["gpt"].missing is None


@table(
    ("key", "text", "path", "value"),
    [
        ("max_tokens", "512", "max_tokens", 512),
        ("stream", "true", "stream", True),
        ("stream", "no", "stream", False),
        ("stream", "1", "stream", True),
        ("effort", "high", "effort", "high"),
    ],
)
def test_whole_value_of_another_type(load: Load, key: str, text: str, path: str, value: object) -> None:
    """A variable may hold a number, a boolean or a choice, in quotes or without."""
    for written in ("${V}", '"${V}"', f"${{V:-{text}}}"):
        loaded = load(HEAD + f"    {key}: {written}\n", **({"V": text} if "-" not in written else {}))
        assert value == getattr(options(loaded), path)


def test_layers(load: Load) -> None:
    """Durations and counts of layers may come from variables."""
    loaded = load(
        HEAD + "    timeout: {total: '${T}'}\n    retry:\n      max_attempts: ${N:-2}\n    limit: ${L:-tier}\n"
        "limits: {tier: {concurrency: '${C}'}}\n",
        T="90s",
        C="4",
    )
    layers: Any = loaded.models["gpt"].layers
    assert layers["timeout"].total == 90
    assert layers["retry"].max_attempts == 2
    assert layers["limit"] == "tier"
    assert loaded.limits["tier"].concurrency == 4


@table(
    ("written", "value"),
    [
        ("\n      t: ${V}", 0.2),
        ("\n      t: '${V}'", "0.2"),
        (' {t: "${V}"}', 0.2),
        ("\n      t: x${V}", "x0.2"),
        ("\n      t: [1, '${V}']", [1, 0.2]),
        ("\n      t: ${B:-true}", True),
        ("\n      token: ${V}", "0.2"),
    ],
)
def test_where_no_type_is_known(load: Load, written: str, value: object) -> None:
    """Among the vendor's own parameters a bare reference is what it looks like; quotes and secret keys make text."""
    loaded = load(HEAD + f"    generate_kwargs:{written}\n", V="0.2")
    assert [value] == list(options(loaded).generate_kwargs.values())


@table("written", ["${}", "${1A}", "${A-b}", "${A:b}", "${env:A}", "${A", "${A:-${B}}", "${file:}"])
def test_no_reference(refuse: Refuse, written: str) -> None:
    """What looks like a reference and is none is an error with the forms there are."""
    error = refuse(HEAD + f'    base_url: "{written}"\n')
    assert len(error.problems) == 1
    forms = "${VAR}, ${VAR:-default}, ${file:/path} or ${cmd:a command}"
    assert error.problems[0].hint == f"write {forms}; $${{ stands for ${{ itself"


def test_file_beside_the_file(tmp_path: Path) -> None:
    """A path is looked for beside the YAML file, and the last line break is no part of the key."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "acme").write_text("top secret\r\n")
    (tmp_path / "models.yaml").write_text(HEAD.replace("k\n", "${file:keys/acme}\n"))
    loaded = load_file(tmp_path / "models.yaml", environ={})
    assert options(loaded).api_key.get_secret_value() == "top secret"


def test_file_elsewhere(tmp_path: Path, load: Load) -> None:
    """An absolute path is taken as it is, within longer text too."""
    (tmp_path / "host").write_text("h\n")
    loaded = load(HEAD + f"    base_url: https://${{file:{tmp_path}/host}}/\n")
    assert options(loaded).base_url == "https://h/"


@table(
    ("make", "missing"),
    [
        (lambda path: None, "write the file {}"),
        (lambda path: path.write_text("\n"), "fill the file {}"),
        (lambda path: path.mkdir(), "make the file {} readable"),
        (lambda path: path.write_bytes(b"\xff"), "make the file {} readable"),
    ],
)
def test_file_that_cannot_be_used(tmp_path: Path, load: Load, make: Callable[[Path], object], missing: str) -> None:
    """A model whose key's file is missing, empty or unreadable is not configured, and says which file."""
    path = tmp_path / "key"
    make(path)
    loaded = load(HEAD.replace("k\n", f"${{file:{path}}}\n"))
    assert missing.format(path) == loaded.models["gpt"].missing


def test_unset(load: Load) -> None:
    """A model with unset variables is not configured; it tells all of them, and where they are asked for."""
    loaded = load(
        HEAD.replace("k\n", "${KEY}\n") + "    max_tokens: ${N}\n    base_url: https://${HOST}/\n"
        "  other: {provider: scripted, reply: x}\nchains: {c: {models: [gpt, other]}}\n",
        KEY="",
    )
    entry = loaded.models["gpt"]
    assert entry.missing == "set KEY and N and HOST"
    assert [(".".join(map(str, item.path)), item.line) for item in entry.unset] == [
        ("models.gpt.api_key", 6),
        ("models.gpt.max_tokens", 7),
        ("models.gpt.base_url", 8),
    ]
    assert entry.options is not None
    assert options(loaded).api_key is None
    assert options(loaded).max_tokens == 2048
    assert loaded.models["other"].missing is None


def test_unset_provider(load: Load) -> None:
    """Even the provider may come from outside; as long as it does not, the model is not configured."""
    text = HEAD.replace("acme", "${KIND}")
    assert load(text).models["gpt"].missing == "set KIND"
    assert load(text).models["gpt"].options is None
    assert load(text, KIND="acme").models["gpt"].missing is None


def test_unset_default(load: Load) -> None:
    """A default that is unset concerns the models that inherit it, and only them."""
    text = (
        "version: 1\ndefaults:\n  timeout: {total: '${T}', idle: 5s}\nmodels:\n"
        "  one: {provider: scripted, reply: x}\n"
        "  two: {provider: scripted, reply: x, timeout: {total: 5s}}\n"
        "  three: {provider: scripted, reply: x, timeout: {idle: 5s}}\n"
        "  four: {provider: scripted, reply: x, timeout: null}\n"
    )
    missing = {name: entry.missing for name, entry in load(text).models.items()}
    assert missing == {"one": "set T", "two": None, "three": "set T", "four": None}


def test_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an environment of its own, the process's is read at the time of loading."""
    data = {"version": 1, "models": {"gpt": {"provider": "acme", "model_name": "${NAME}", "api_key": "k"}}}
    assert load_dict(data).models["gpt"].missing == "set NAME"
    monkeypatch.setenv("NAME", "later")
    assert options(load_dict(data)).model_name == "later"
