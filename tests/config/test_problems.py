"""What a broken file says: the first line, the caret, the hint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from modelhub.config.load import load_dict, load_file, load_text
from modelhub.config.schema import HubConfig
from modelhub.core.errors import ConfigError
from tests.tables import table

Refuse = Callable[..., ConfigError]

GPT = "version: 1\nmodels:\n  gpt: {provider: acme, model_name: a}\n"
OPEN = "version: 1\nmodels:\n  gpt:\n    provider: acme\n    model_name: a\n"
ARMS = GPT.replace("{", "{{").replace("}", "}}") + "chains:\n  main: {{models: [\n        {}]}}\n"
EXAMPLE_OF_ARMS = "add `arms: {gpt-a: 3, gpt-b: 1}`"
BOUNDS = "add `requests_per_minute`, `tokens_per_minute` or `concurrency`"

TABLE = [
    # not even YAML
    ("", "1:1: the file is empty", "it needs at least `version: 1` and `models:`"),
    ("# only this\n", "1:1: the file is empty", "it needs at least `version: 1` and `models:`"),
    ("- a\n", "1:1: the file must be a mapping (`key: value`), not a list", "begin with `version: 1`"),
    ("version\n", "1:1: the file must be a mapping (`key: value`), not text", "begin with `version: 1`"),
    ("version: 1\n\tmodels:\n", "2:1: a tab; YAML indents with spaces", "replace it by spaces"),
    ("version: 1\nmodels: [a, b\nchains: {}\n", "2:9: this `[` is not closed", "add `]`"),
    ("version: 1\nmodels: {a: {b: c}\n", "2:9: this `{` is not closed", "add `}`"),
    ("version: 1\nmodels: 'a\n", "2:9: this quote is not closed", "close it where the text ends"),
    ("version: 1\nmodels: a: b\n", "2:10: a second `:` in one line", "put quotes around the value"),
    ("version: 1\n  models: {}\n", "2:3: this line is indented too far", "align it with its neighbours"),
    ("version\nmodels: {}\n", "1:1: this line has no `:`", "write `key: value`, or `key:` above more indented lines"),
    (
        "version: 1\nmodels:\n    a: {}\n  b: {}\n",
        "4:3: this indentation fits no line above",
        "align it with its neighbours",
    ),
    ("version: *one\n", "1:10: an alias (`*name`) whose anchor (`&name`) does not exist", "put it in quotes"),
    ("version: @one\n", "1:10: text cannot begin with this character", "put it in quotes"),
    ("version: 1\n---\nmodels: {}\n", "2:1: a second document (`---`)", "a file has one document"),
    ("version: 1\nmodels: {a: ${B}}\n", "2:13: `${...}` needs quotes inside `{}` or `[]`", 'write "${...}"'),
    ("version: \x00\n", "1:10: a control character that YAML does not allow", "remove it"),
    (GPT + "chains: &v {a: *v}\n", "4:9: an alias that refers to its own parent", ""),
    (
        GPT.replace("1", "!env X"),
        "1:10: a tag (`!name`) is not supported",
        "put quotes around text that begins with `!`",
    ),
    (GPT + "? [a]\n: 1\n", "4:3: a key must be a name, not a list or mapping", ""),
    (GPT + "<<: 2\n", "4:5: `<<` merges a mapping (`*name`) or a list of them", ""),
    (GPT + "version: 1\n", "4:1: duplicate key `version`", "it is already on line 1"),
    # the sections
    ("models: {a: {provider: scripted, reply: x}}\n", "1:1: the file has no `version`", "add `version: 1`"),
    (GPT.replace("1", "2"), "1:10: `version: 2` is not supported (supported: 1)", "did you mean `version: 1`?"),
    (GPT.replace("1", '"1"'), '1:10: `version: "1"` must be a number', "write it without quotes"),
    (GPT.replace("1", ""), "1:1: `version` has no value", "add `version: 1`"),
    (
        "version: 1\n",
        "1:1: the file has no `models`",
        "add `models: {gpt: {provider: openai, model_name: gpt-5-mini}}`",
    ),
    (
        "version: 1\nmodels: {}\n",
        "2:1: `models` is empty",
        "add `models: {gpt: {provider: openai, model_name: gpt-5-mini}}`",
    ),
    ("version: 1\nmodels:\n", "2:1: `models` is empty", "indent what belongs to it, or remove it"),
    (
        "version: 1\nmodels: [a]\n",
        "2:9: `models` must be a mapping (`key: value`), not a list",
        "write a name before each of the models: `name: {...}`",
    ),
    (GPT + "modles: {}\n", "4:1: unknown key `modles` in the file", "did you mean `models`?"),
    *(
        (GPT + f"{name}: {{}}\n", f"4:1: unknown key `{name}` in the file", f"did you mean `{key}`?")
        for name, key in {
            "chain": "chains",
            "model": "models",
            "limit": "limits",
            "budget": "budgets",
            "profile": "profiles",
            "includes": "include",
            "default": "defaults",
        }.items()
    ),
    (
        GPT + "colour: red\n",
        "4:1: unknown key `colour` in the file",
        f"known keys: {', '.join(HubConfig.model_fields)}",
    ),
    (
        GPT + "claude: {provider: acme}\n",
        "4:1: unknown key `claude` in the file",
        "a model belongs under `models:`",
    ),
    (GPT + "spare: {models: [gpt]}\n", "4:1: unknown key `spare` in the file", "a chain belongs under `chains:`"),
    # arms
    (ARMS.format("{arms: {}}"), "6:16: `arms` is empty", ""),
    (ARMS.format("{arms: []}"), "6:16: `arms` is empty", ""),
    (
        ARMS.format("{arms: {gpt: 0}}"),
        "6:22: `gpt: 0`: a weight is over 0 and at most 1,000,000",
        "remove it if it is to get no calls",
    ),
    (
        ARMS.format("{arms: {gpt: -1}}"),
        "6:22: `gpt: -1`: a weight is over 0 and at most 1,000,000",
        "remove it if it is to get no calls",
    ),
    (ARMS.format("{arms: {gpt: many}}"), "6:22: `gpt: many` must be a number", ""),
    (
        ARMS.format("{arms: {gtp: 3}}"),
        "6:17: chain `main` names an unknown model `gtp`",
        "did you mean `gpt`? (models: gpt)",
    ),
    (
        ARMS.format("{arms: [gtp]}"),
        "6:17: chain `main` names an unknown model `gtp`",
        "did you mean `gpt`? (models: gpt)",
    ),
    (ARMS.format("{arms: [gpt, gpt]}"), "6:22: chain `main` lists `gpt` twice", "remove one of them"),
    (
        ARMS.format("{arms: [gpt], by: user}"),
        "6:27: `by: user`: expected `tag:` and the name of a tag, such as tag:user",
        "did you mean `tag:user`?",
    ),
    (ARMS.format("{arms: [gpt], pick: best}"), "6:29: `pick: best` must be `weighted` or `least_busy`", ""),
    (ARMS.format("{by: tag:user}"), "6:9: item 1 of `models` of chain `main` has no `arms`", EXAMPLE_OF_ARMS),
    (ARMS.format("{arms: gpt}"), "6:16: `arms: gpt` must be a mapping (`key: value`)", ""),
    (ARMS.format("{arms: {main: 1}}"), "6:17: chain cycle: main > main", "a chain cannot lead back to itself"),
    # keys
    (OPEN + "    keys: []\n", "6:11: `keys` is empty", ""),
    (
        OPEN + "    api_key: a\n    keys: [{api_key: b}]\n",
        "6:5: `api_key` and `keys` are both set",
        "keep one of them",
    ),
    (
        OPEN + "    keys: [{weight: 2}]\n",
        "6:12: item 1 of `keys` of model `gpt` has no `api_key`",
        "add `api_key: ...`",
    ),
    (
        OPEN + "    keys: [{api_key: a, wieght: 2}]\n",
        "6:25: unknown key `wieght` in item 1 of `keys` of model `gpt`",
        "did you mean `weight`?",
    ),
    (
        OPEN + "    keys: [{api_key: a, weight: 0}]\n",
        "6:33: `weight: 0`: a weight is over 0 and at most 1,000,000",
        "remove it if it is to get no calls",
    ),
    (
        OPEN + "    keys: [{api_key: a}, {api_key: a}]\n",
        "6:36: item 2 of `keys` is the same key as an earlier one",
        "remove one of them",
    ),
    (
        OPEN + "    keys: [{api_key: a}, {api_key: b, name: '1'}]\n",
        "6:26: two of the `keys` are called `gpt#1`",
        "give one of them another name",
    ),
    (
        OPEN + "    keys: [{api_key: c, limit: ogr}]\nlimits: {org: {concurrency: 1}}\n",
        "6:32: unknown limit `ogr` in model `gpt`",
        "did you mean `org`? (limits: org)",
    ),
    (OPEN + "    keys: {a: b}\n", "6:11: `keys` must be a list, not a mapping", ""),
    # models
    ("version: 1\nmodels:\n  gpt:\n", "3:3: model `gpt` is empty", "indent what belongs to it, or remove it"),
    (
        "version: 1\nmodels:\n  gpt: acme\n",
        "3:8: model `gpt` must be a mapping (`key: value`), not a single value",
        "",
    ),
    (
        "version: 1\nmodels:\n  g$t: {provider: acme, model_name: a}\n",
        "3:3: a name in `models` has letters, digits, `.`, `_` and `-`, and begins with a letter or digit",
        "",
    ),
    (GPT.replace(", model_name: a", ""), "3:3: model `gpt` has no `model_name`", "add `model_name: gpt-5-mini`"),
    (GPT.replace("model_name: a", "model_name: 5"), "3:37: `model_name: 5` must be text", "put it in quotes"),
    (GPT.replace("model_name: a", 'model_name: ""'), "3:37: `model_name` is empty", ""),
    (OPEN + "    retires: {}\n", "6:5: unknown key `retires` in model `gpt`", "did you mean `retry`?"),
    (OPEN + "    model: b\n", "6:5: unknown key `model` in model `gpt`", "did you mean `model_name`?"),
    (
        OPEN.replace("model_name", "model_nam"),
        "5:5: unknown key `model_nam` in model `gpt`",
        "did you mean `model_name`?",
    ),
    (OPEN.replace("provider", "providr"), "4:5: unknown key `providr` in model `gpt`", "did you mean `provider`?"),
    (OPEN.replace("provider", "vendor"), "4:5: unknown key `vendor` in model `gpt`", "did you mean `provider`?"),
    (GPT.replace("version", "verison"), "1:1: unknown key `verison` in the file", "did you mean `version`?"),
    (GPT.replace("models", "modles"), "2:1: unknown key `modles` in the file", "did you mean `models`?"),
    (OPEN + "    url: b\n", "6:5: unknown key `url` in model `gpt`", "did you mean `base_url`?"),
    (OPEN + "    max_retries: 2\n", "6:5: unknown key `max_retries` in model `gpt`", "did you mean `retry`?"),
    (
        OPEN + "    temperature: 1\n",
        "6:5: unknown key `temperature` in model `gpt`",
        "it belongs under `ask`",
    ),
    (OPEN + "    first_token: 3\n", "6:5: unknown key `first_token` in model `gpt`", "it belongs under `timeout`"),
    (
        OPEN + "    timeout: {totl: 3}\n",
        "6:15: unknown key `totl` in `timeout` of model `gpt`",
        "did you mean `total`?",
    ),
    (OPEN + "    timeout:\n", "6:5: `timeout` has no value", "give it one, or remove it"),
    (
        OPEN + "    timeout: 5s\n",
        "6:14: `timeout: 5s` must be a mapping (`key: value`)",
        "for example `timeout: {total: 30s}`",
    ),
    (
        OPEN + "    timeout: {total: soon}\n",
        "6:22: `total: soon` must be a duration such as 500ms, 5s, 2m, or a number of seconds",
        "",
    ),
    (
        OPEN + "    timeout: {first_token: 30000}\n",
        "6:28: `first_token: 30000` is over the limit of 10m; a plain number is in seconds",
        "did you mean `30s`?",
    ),
    (
        OPEN + "    timeout: {idle: 0}\n",
        "6:21: `idle: 0` is under the minimum of 1ms; a plain number is in seconds",
        "",
    ),
    (OPEN + "    timeout: {idle: 20m}\n", "6:21: `idle: 20m` is over the limit of 10m", ""),
    (OPEN + "chains: {c: {models: [gpt], deadline: 25h}}\n", "6:39: `deadline: 25h` is over the limit of 24h", ""),
    (OPEN + "    stream: yes\n", "6:13: `stream: yes` must be true or false", "did you mean `true`?"),
    (OPEN + '    stream: "true"\n', '6:13: `stream: "true"` must be true or false', "write it without quotes"),
    (OPEN + "    stream: 1\n", "6:13: `stream: 1` must be true or false", "did you mean `true`?"),
    (OPEN + "    stream: maybe\n", "6:13: `stream: maybe` must be true or false", ""),
    (OPEN + "    max_tokens: many\n", "6:17: `max_tokens: many` must be a whole number", ""),
    (OPEN + "    max_tokens: 1.5\n", "6:17: `max_tokens: 1.5` must be a whole number", ""),
    (OPEN + "    max_tokens: true\n", "6:17: `max_tokens: true` must be a number", ""),
    (
        OPEN.replace("acme", "scripted") + "    steps:\n      - {say: a, status: true}\n",
        "7:26: `status: true` must be at least 100",
        "",
    ),
    (
        OPEN.replace("acme", "scripted") + "    steps:\n      - {say: a, break_after: true}\n",
        "7:31: `break_after: true` must be a number",
        "",
    ),
    (OPEN + "    limit: {max_queue: 5}\n", "6:5: `limit` of model `gpt` sets no limit", BOUNDS),
    (OPEN + "    max_tokens: 0\n", "6:17: `max_tokens: 0` must be at least 1", ""),
    (OPEN + "    max_tokens: [1]\n", "6:17: `max_tokens` must be a whole number, not a list", ""),
    (OPEN + "    effort: hihg\n", "6:13: `effort: hihg` must be `low` or `high`", "did you mean `high`?"),
    (
        OPEN + "    think: maybe\n",
        "6:12: `think: maybe` must be true or false, or `low` or `high`",
        "",
    ),
    (
        OPEN.replace("acme", "scripted") + "    steps:\n      - say: a\n        wiat: 5\n",
        "8:9: unknown key `wiat` in item 1 of `steps` of model `gpt`",
        "did you mean `wait`?",
    ),
    (OPEN + "    api_key: 12\n", "6:14: `api_key` must be text, not a number", "put it in quotes"),
    (OPEN + "    api_key: $ACME_KEY\n", "6:14: `api_key` looks like a variable without braces", "write it as ${NAME}"),
    (
        OPEN + "    base_url: ${A\n",
        "6:15: `${` does not begin a reference",
        "write ${VAR}, ${VAR:-default}, ${file:/path} or ${cmd:a command}; $${ stands for ${ itself",
    ),
    (
        OPEN + "    generate_kwargs:\n      - a\n",
        "6:5: `generate_kwargs` must be a mapping (`key: value`), not a list",
        "for example `generate_kwargs: {temperature: 0.2}`",
    ),
    # defaults
    (GPT + "defaults:\n  retires: {}\n", "5:3: unknown key `retires` in `defaults`", "did you mean `retry`?"),
    (
        GPT + "defaults:\n  retry: {max_attempts: 50}\n",
        "5:25: `max_attempts: 50` must be at most 20",
        "",
    ),
    # limits
    (
        OPEN + "    limit: teir\nlimits: {tier: {concurrency: 1}}\n",
        "6:12: unknown limit `teir` in model `gpt`",
        "did you mean `tier`? (limits: tier)",
    ),
    (OPEN + "    limit: tier\n", "6:12: unknown limit `tier` in model `gpt`", "there are no limits"),
    (
        GPT + "limits: {tier: {}}\n",
        "4:10: limit `tier` sets no limit",
        BOUNDS,
    ),
    (
        GPT + "limits: {tier: {rpm: 5}}\n",
        "4:17: unknown key `rpm` in limit `tier`",
        "did you mean `requests_per_minute`?",
    ),
    (
        GPT + "limits: {tier: {concurrency: '${N}'}}\n",
        "4:30: `concurrency: ${N}` cannot be filled in: set N",
        "or give a default: ${VAR:-default}",
    ),
    # chains
    (
        GPT + "chains:\n  a: {models: [gtp]}\n",
        "5:16: chain `a` names an unknown model `gtp`",
        "did you mean `gpt`? (models: gpt)",
    ),
    (GPT + "chains:\n  a: {models: [gpt, gpt]}\n", "5:21: chain `a` lists `gpt` twice", "remove one of them"),
    (GPT + "chains:\n  a: {models: []}\n", "5:15: `models` is empty", ""),
    (
        GPT + "chains:\n  a: [gpt]\n",
        "5:6: chain `a` must be a mapping (`key: value`), not a list",
        "did you mean `models: [...]`?",
    ),
    (GPT + "chains:\n  a: {}\n", "5:3: chain `a` has no `models`", "add `models: [gpt, claude]`"),
    (GPT + "chains:\n  a: {models: gpt}\n", "5:15: `models: gpt` must be a list", "did you mean `[gpt]`?"),
    (GPT + "chains:\n  a: {models: [gpt, 5]}\n", "5:21: `5` in `models` must be text", "put it in quotes"),
    (
        GPT + "chains:\n  a:\n    models:\n    - gpt\n    -\n",
        "8:6: item 2 of `models` has no value",
        "give it one, or remove it",
    ),
    (GPT + "chains:\n  a: {models: [a]}\n", "5:16: chain cycle: a > a", "a chain cannot lead back to itself"),
    (
        GPT + "chains:\n  a: {models: [gpt, b]}\n  b: {models: [c]}\n  c: {models: [gpt, a]}\n",
        "5:21: chain cycle: a > b > c > a",
        "a chain cannot lead back to itself",
    ),
    (
        GPT + "chains:\n  a: {models: [gpt]}\n  b: {models: [gtp]}\n",
        "6:16: chain `b` names an unknown model `gtp`",
        "did you mean `gpt`? (models and chains: a, gpt)",
    ),
    *(
        (
            GPT + f"budgets: {{all: {{tokens: 5, per: {period}}}}}\n",
            f"4:33: `per: {period}`: expected `hour`, `day`, `month`, or a span of hours or days such as 12h or 30d",
            hint,
        )
        for period, hint in {
            "dya": "did you mean `day`?",
            "daily": "did you mean `day`?",
            "Month": "did you mean `month`?",
            "7w": "",
        }.items()
    ),
    (GPT + "budgets: {all: {tokens: 5, per: day, tag: =}}\n", "4:43: `tag: =` must be written like `job=nightly`", ""),
    (
        OPEN + "    keys: [{api_key: a, name: a b}]\n",
        "6:31: `name: a b` must be written like `org-a`",
        "",
    ),
    (
        OPEN + "    prompt_cache: {key: session}\n",
        "6:25: `key` must be written like `tag:session`",
        "",
    ),
    (
        GPT + "shared: {url: 'redis://host', prefix: a b}\n",
        "4:39: `prefix: a b` must be written like `my-app`",
        "",
    ),
    (
        GPT + "chains:\n  gpt: {models: [gpt]}\n",
        "5:3: `gpt` names both a model and a chain",
        "give one of them another name; the model is on line 3",
    ),
    (
        GPT + "chains:\n  a: {models: [gpt], on_broken_stream: restrat}\n",
        "5:40: `on_broken_stream: restrat` must be `restart` or `raise`",
        "did you mean `restart`?",
    ),
]


def test_one_mistake_is_one_problem(refuse: Refuse) -> None:
    """It says what is wrong, where, and what to do, without what follows from it."""
    for text, first, hint in TABLE:
        problems = [(str(problem).splitlines()[0], problem.hint) for problem in refuse(text).problems]
        assert problems == [(f"models.yaml:{first}", hint)]


def test_looks() -> None:
    """A file with three mistakes tells all of them, with two lines above each, carets and the count."""
    text = dedent("""\
        version: 1
        models:
          gpt:
            provider: acme
            retires: {max_attempts: 3}
            model_name: a
            timeout: {first_token: 30000}

        chains:
          primary:
            models: [gtp]
        """)
    with pytest.raises(ConfigError) as caught:
        load_text(text, environ={})
    assert str(caught.value) == dedent("""\
        models.yaml:5:5: unknown key `retires` in model `gpt`
            3 |   gpt:
            4 |     provider: acme
            5 |     retires: {max_attempts: 3}
              |     ^^^^^^^ did you mean `retry`?

        models.yaml:7:28: `first_token: 30000` is over the limit of 10m; a plain number is in seconds
            5 |     retires: {max_attempts: 3}
            6 |     model_name: a
            7 |     timeout: {first_token: 30000}
              |                            ^^^^^ did you mean `30s`?

        models.yaml:11:14: chain `primary` names an unknown model `gtp`
            9 | chains:
           10 |   primary:
           11 |     models: [gtp]
              |              ^^^ did you mean `gpt`? (models: gpt)

        3 problems in models.yaml""")


def test_caret_under_wide_text(refuse: Refuse) -> None:
    """The caret stands where the reader sees the place, also after wide characters and tabs in text."""
    excerpt = (
        refuse("version: 1\nmodels:\n  gpt: {provider: acme, model_name: 模型é, streem: true}\n").problems[0].excerpt
    )
    line, caret = excerpt.splitlines()[-2:]
    assert line.endswith("模型é, streem: true}")
    assert caret.index("^") == line.index("streem") + 2
    assert "^^^^^^ did you mean `stream`?" in caret


def test_long_line_is_cut(refuse: Refuse) -> None:
    """A long line above does not fill the screen."""
    text = OPEN + f"    generate_kwargs: {{prompt: '{'x y ' * 200}'}}\n    streem: true\n"
    assert max(map(len, refuse(text).problems[0].excerpt.splitlines())) < 160


def test_caret_in_a_long_line(refuse: Refuse) -> None:
    """A long line is cut around the place of the problem, so that the caret points at it."""
    entries = ", ".join(f"m{number}: {{provider: acme, model_name: a}}" for number in range(20))
    for number in (0, 1, 2, 10, 17, 18, 19):
        name = f"m{number}: {{"
        text = f"version: 1\nmodels: {{{entries.replace(name, name + 'streem: true, ')}}}\n"
        line, caret = refuse(text).problems[0].excerpt.splitlines()[-2:]
        assert line[caret.index("^") : caret.rindex("^") + 1] == "streem"
        assert len(line) < 160


def test_problems_of_a_dict_say_where() -> None:
    """Configuration from a dict has no lines: the message names the place."""
    with pytest.raises(ConfigError) as caught:
        load_dict(
            {
                "version": 1,
                "models": {"gpt": {"provider": "acme", "model_name": "a", "retry": {"max_attempts": 0, "foo": 1}}},
                "chains": {"c": {"models": ["gtp"]}},
            },
            environ={},
        )
    first, second, third = caught.value.problems
    assert first.message == "`retry` of model `gpt`: `max_attempts: 0` must be at least 1"
    assert str(second).startswith("unknown key `foo` in `retry` of model `gpt`\nknown keys: max_attempts,")
    assert str(third) == "chain `c` names an unknown model `gtp`\ndid you mean `gpt`? (models: gpt)"


@table("data", [[], "text", None, 5])
def test_dict_must_be_one(data: object) -> None:
    """What is no mapping at all is said to be none."""
    with pytest.raises(ConfigError, match="the configuration must be a mapping"):
        load_dict(data, environ={})  # type: ignore[arg-type]


def test_problem_in_defaults_is_told_once(refuse: Refuse) -> None:
    """A wrong default is one problem, however many models inherit it."""
    text = "version: 1\ndefaults:\n  retry: {max_attempts: 50}\nmodels:\n"
    text += "".join(f"  m{number}: {{provider: acme, model_name: a}}\n" for number in range(5))
    assert [problem.line for problem in refuse(text).problems] == [3]


def test_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is an error of the configuration, and names the file."""
    with pytest.raises(ConfigError) as caught:
        load_file(tmp_path / "none.yaml", environ={})
    assert str(caught.value) == (
        f"{tmp_path / 'none.yaml'}: the file cannot be read: no such file or directory\n\n"
        f"1 problem in {tmp_path / 'none.yaml'}"
    )


def test_file_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are refused with their line."""
    path = tmp_path / "models.yaml"
    path.write_bytes(b"version: 1\nmodels: \xff\n")
    with pytest.raises(ConfigError, match=r"models\.yaml:2: this line is not UTF-8 text"):
        load_file(path, environ={})


def test_byte_order_mark(tmp_path: Path) -> None:
    """The mark some editors write at the front is no part of the first key."""
    path = tmp_path / "models.yaml"
    path.write_text(GPT, encoding="utf-8-sig")
    assert list(load_file(path, environ={}).models) == ["gpt"]


@table(
    ("text", "hint"),
    [
        ("models: {m: {provider: scripted, reply: x, timeout: 30000}}", "for example `timeout: {total: 30s}`"),
        ("models: {m: {provider: scripted, reply: x, retry: 3}}", "for example `retry: {max_attempts: 3}`"),
        (
            "version: 1\nmodels:\n- {name: m, provider: scripted}",
            "write a name before each of the models: `name: {...}`",
        ),
        ('models: {m: {provider: scripted, reply: "x}}', "close it where the text ends"),
        (
            "models: {m: {provider: scripted, reply: x}}\nchains: {c: {models: [m], fallback_on: [RateLimted]}}",
            "did you mean `RateLimited`?",
        ),
    ],
)
def test_a_problem_says_what_to_write(refuse: Refuse, text: str, hint: str) -> None:
    """An example, or what was meant; without a list of names so long that nobody finds it."""
    assert [problem.hint for problem in refuse(text).problems if "version" not in problem.message] == [hint]


def test_many_aliases_do_not_explode(refuse: Refuse) -> None:
    """A file whose aliases would make millions of values is refused at once."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdef", "bcdefg", strict=True)]
    assert "aliases make too many values" in str(refuse("\n".join(lines)))


def test_deep_nesting(refuse: Refuse) -> None:
    """Very deep nesting is a problem, not a crash."""
    assert "nested too deeply" in str(refuse("a: " + "[" * 900 + "]" * 900))


def test_without_the_fast_parser(monkeypatch: pytest.MonkeyPatch, refuse: Refuse) -> None:
    """Where PyYAML has no C parser, its own says the same."""
    import yaml

    from modelhub.config import source

    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    source.make_loader.cache_clear()
    try:
        for text, first, _ in TABLE:
            assert str(refuse(text)).startswith(f"models.yaml:{first}")
        assert "nested too deeply" in str(refuse("a: " + "[" * 900 + "]" * 900))
    finally:
        source.make_loader.cache_clear()
