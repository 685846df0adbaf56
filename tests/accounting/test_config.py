"""What the file may say of usage and budgets, and what is told of mistakes."""

from decimal import Decimal

import pytest

from modelhub import ConfigError
from modelhub.config.load import load_text
from tests.tables import table

HEAD = """\
version: 1
models: {gpt: {provider: scripted}, claude: {provider: scripted}}
chains: {primary: {models: [gpt, claude]}}
"""


def test_sections_are_read_with_their_defaults():
    """Nothing need be said; what is said has its units."""
    plain = load_text(HEAD, environ={}).config
    assert (plain.usage.cost, plain.usage.ledger, plain.usage.batch, plain.usage.max_delay) == ("auto", None, 50, 1.0)
    assert plain.usage.refresh == 5
    assert plain.budgets == {}
    text = """\
usage: {cost: true, ledger: usage.db, batch: 0, max_delay: 250ms}
budgets:
  team: {chain: primary, usd: 12.50, per: month}
  each: {tag: user, tokens: 100_000, per: 30d, on_exceeded: warn}
"""
    config = load_text(HEAD + text, environ={}).config
    assert (config.usage.cost, config.usage.max_delay) == (True, 0.25)
    assert (config.budgets["team"].usd, config.budgets["each"].tokens) == (Decimal("12.50"), 100_000)


@table(
    ("text", "line", "words"),
    [
        ("budgets: {b: {chain: primry, usd: 1, per: day}}", 4, "unknown chain `primry`"),
        ("budgets: {b: {chain: primry, usd: 1, per: day}}", 4, "did you mean `primary`?"),
        ("budgets: {b: {model: primary, usd: 1, per: day}}", 4, "unknown model `primary`"),
        ("budgets: {b: {usd: 1, tokens: 5, per: day}}", 4, "has both `usd` and `tokens`"),
        ("budgets: {b: {per: day}}", 4, "sets no limit"),
        ("budgets: {b: {model: gpt, chain: primary, usd: 1, per: day}}", 4, "has more than one subject"),
        ("budgets: {b: {usd: 1}}", 4, "has no `per`"),
        ("budgets: {b: {usd: 1, per: week}}", 4, "`per: week`"),
        ("budgets: {b: {usd: 0, per: day}}", 4, "`usd: 0`"),
        ("budgets: {b: {usd: 1, per: day, on_exceeded: stop}}", 4, "`on_exceeded: stop`"),
        ("budgets: {b: {dollars: 1, per: day}}", 4, "unknown key `dollars`"),
        ("budgets: [1]", 4, "must be a mapping"),
        ("usage: {ledgr: usage.db}", 4, "did you mean `ledger`?"),
        ("usage: {cost: maybe}", 4, "`cost: maybe`"),
        ("usage: {ledger: usage.db, max_delay: 5000}", 4, "`max_delay: 5000`"),
        ("usage: {ledger: usage.db, refresh: 0}", 4, "`refresh: 0`"),
    ],
)
def test_a_mistake_is_told_with_its_place(text, line, words):
    """At load, like every other."""
    with pytest.raises(ConfigError) as caught:
        load_text(f"{HEAD}{text}\n", environ={})
    assert words in str(caught.value)
    assert {problem.line for problem in caught.value.problems} == {line}
