"""Loading takes time in proportion to the file, and deep or self-multiplying files are refused."""

import gc
import time

import pytest

from modelhub.config.load import load_text
from modelhub.core.errors import ConfigError
from tests.tables import table

HEAD = "version: 1\nmodels:\n  m: {provider: scripted, reply: x}\n"
SIZE = 100_000


def scripted(reply):
    return f"version: 1\nmodels:\n  m: {{provider: scripted, reply: {reply}}}\n"


def merges(levels, each):
    lines = [f"x{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * each)}]}}" for i in range(1, levels)]
    return "\n".join(["version: 1", "x0: &a0 {a: 1}", *lines, "models: {m: {provider: scripted, reply: x}}"])


FILES = {
    "one long word": scripted("a" * SIZE),
    "the beginning of a token again and again": scripted("eyJ-" * (SIZE // 4)),
    "an address in an address": scripted(f"'{'://a' * (SIZE // 4)}'"),
    "quotes": scripted(f"'{chr(34) * SIZE}'"),
    "merge keys, nested": merges(12, 9),
    "merge keys, in a chain": HEAD
    + "x0: &a0 {k0: 1}\n"
    + "".join(f"x{i}: &a{i} {{<<: *a{i - 1}, k{i}: 1}}\n" for i in range(1, 2000)),
    "lists in lists": f"{HEAD}z: {'[' * SIZE}",
    "mappings in mappings": f"{HEAD}z: {'{a: ' * (SIZE // 4)}",
    "anchors": f"{HEAD}z:\n" + "".join(f"  k{i}: &a{i} {i}\n" for i in range(3000)),
    "unknown keys in one line": "version: 1\nmodels:\n  m: {provider: openai, model_name: x"
    + "".join(f", kez{i}: 1" for i in range(3000))
    + "}\n",
    "secrets in one line": "version: 1\nmodels:\n  m: {provider: openai, model_name: x"
    + "".join(f", secret_key{i}: abcdefgh{i}" for i in range(3500))
    + "}\n",
    "unknown keys, a line each": HEAD + "  n:\n" + "".join(f"    kez{i}: {i}\n" for i in range(6000)),
    "a secret over many lines": f"{HEAD}  n:\n    provider: openai\n    model_name: x\n    api_key: |\n"
    + "".join(f"      line{i}\n" for i in range(10_000)),
    "names of unknown models": f"{HEAD}chains:\n  c: {{models: [{', '.join(f'q{i}' for i in range(3000))}]}}\n",
    "chains of chains": f"{HEAD}chains:\n"
    + "".join(f"  c{i}: {{models: [c{i + 1}]}}\n" for i in range(199))
    + "  c199: {models: [m]}\n",
    "broken at its end": f"{HEAD}z:\n" + "  a: b\n" * 10_000 + " x: [\n",
}


@table("text", FILES.values(), ids=FILES)
def test_a_file_of_100_kilobytes_is_read_at_once(text):
    """Whatever it is made of; where the work grew with the square of the size, this took minutes."""
    began = time.process_time()
    try:
        load_text(text, environ={})
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - whether it can be loaded is not the question
    assert time.process_time() - began < 3


def test_secrets_of_one_line_are_all_hidden():
    """However many there are, before and behind the place that a problem points at."""
    pairs = [f"secret_key{i}: {secret}" for i, secret in enumerate(("aaa-1", '"bbb, 2"', '"${VAR}"', "ccc-3"))]
    with pytest.raises(ConfigError) as caught:
        load_text(f"{HEAD}  n: {{{', '.join([*pairs[:2], 'kez: 1', *pairs[2:]])}, provider: openai, model_name: x}}")
    pointed = next(problem for problem in caught.value.problems if "`kez`" in problem.message)
    line, caret = pointed.excerpt.splitlines()[-2:]
    assert line.endswith(
        'n: {secret_key0: ***, secret_key1: ***, kez: 1, secret_key2: "${VAR}", secret_key3: ***, provider: openai, '
        "model_name: x}"
    )
    assert caret.index("^") == line.index("kez")


def test_a_file_of_too_many_values_stops_nothing_else_for_long():
    """Reading ends where there are more values than anybody has, and collects no garbage while it makes them."""
    text = HEAD + "z:\n" + "".join(f"  k{i}: {{<<: *b, a{i}: &a{i} x}}\n" for i in range(18_000)).replace("*b", "{}")
    with pytest.raises(ConfigError, match="the file is too large"):
        load_text(text, environ={})
    assert gc.isenabled()


def test_a_file_nested_too_deeply_is_refused():
    """With its place, and without ending the process, which the parser's recursion would."""
    with pytest.raises(ConfigError, match=r"models\.yaml:4:203: the file is nested too deeply"):
        load_text(f"{HEAD}z: {'[' * 1_000_000}", environ={})


def test_merged_keys_are_those_of_every_level():
    """What is merged is merged once, and the nearest value goes before the others."""
    text = f"{HEAD}  n:\n    <<: [&b {{<<: &a {{provider: scripted, reply: far}}, reply: near}}, *a]\n"
    assert load_text(text, environ={}).models["n"].options.reply == "near"


def test_the_first_thousand_problems_are_reported():
    """And that there are more."""
    with pytest.raises(ConfigError) as caught:
        load_text(HEAD + "".join(f"sec{i}: 1\n" for i in range(1500)), environ={})
    assert len(caught.value.problems) == 1001
    assert "these are the first 1,000 problems" in str(caught.value)
