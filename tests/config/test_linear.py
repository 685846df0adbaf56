"""Loading takes time in proportion to the file, and deep or self-multiplying files are refused."""

import time

import pytest

from modelhub.config.load import load_text
from modelhub.errors import ConfigError

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
    "names of unknown models": f"{HEAD}chains:\n  c: {{models: [{', '.join(f'q{i}' for i in range(3000))}]}}\n",
    "chains of chains": f"{HEAD}chains:\n"
    + "".join(f"  c{i}: {{models: [c{i + 1}]}}\n" for i in range(199))
    + "  c199: {models: [m]}\n",
    "broken at its end": f"{HEAD}z:\n" + "  a: b\n" * 10_000 + " x: [\n",
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_file_of_100_kilobytes_is_read_at_once(text):
    """Whatever it is made of; where the work grew with the square of the size, this took minutes."""
    began = time.process_time()
    try:
        load_text(text, environ={})
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - whether it can be loaded is not the question
    assert time.process_time() - began < 3


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
