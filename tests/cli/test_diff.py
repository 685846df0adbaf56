"""`modelhub diff` shows what changes from one file to another, and exits as diff does."""

import json

OLD = """\
version: 1
limits:
  tier: {requests_per_minute: 500}
models:
  gpt:
    provider: openai
    model_name: gpt-5-mini
    api_key: ${OPENAI_API_KEY}
    limit: tier
    pricing: {input: 1, output: 2}
  claude: {provider: anthropic, model_name: claude-sonnet, api_key: sk-ant-the-old-one, pricing: {input: 3, output: 15}}
  offline: {provider: scripted, reply: sorry}
chains:
  primary: {models: [gpt, claude, offline], deadline: 90s}
  other: {models: [offline]}
"""
NEW = """\
version: 1
defaults: {retry: {max_attempts: 2}}
limits:
  tier: {requests_per_minute: 800}
models:
  offline: {provider: scripted, reply: sorry}
  gpt:
    provider: openai
    model_name: gpt-5-nano
    api_key: ${file:/run/secrets/key}
    limit: tier
    pricing: {input: 1, output: 2}
  claude: {provider: anthropic, model_name: claude-sonnet, api_key: sk-ant-the-new-one, pricing: {input: 3, output: 15}}
  nano: {provider: openai, model_name: gpt-5-nano, api: chat, pricing: {input: 9, output: 9}}
chains:
  primary: {models: [nano, gpt, claude], deadline: 60s}
  other: {models: [offline]}
usage: {cost: false}
"""
SHOWN = """\
~ model gpt
    model_name          gpt-5-mini -> gpt-5-nano
    api_key             ${OPENAI_API_KEY} -> ${file:/run/secrets/key}
    retry.max_attempts  3 -> 2
~ model claude
    api_key             changed
    retry.max_attempts  3 -> 2
~ model offline
    retry.max_attempts  3 -> 2
+ model nano  added
~ chain primary
    models    [gpt, claude, offline] -> [nano, gpt, claude]
    deadline  90s -> 60s
~ limit tier
    requests_per_minute  500 -> 800
"""


def write(config, **texts):
    for name, text in texts.items():
        (config.parent / f"{name}.yaml").write_text(text)


def test_every_change_is_shown_key_by_key(run, config):
    """With the defaults filled in, in the order of the files, and of a secret only that it has changed."""
    write(config, old=OLD, new=NEW.replace("usage: {cost: false}\n", ""))
    result = run("diff", "old.yaml", "new.yaml")
    assert result.exit_code == 1
    assert result.stdout.startswith(SHOWN)
    assert "the-old-one" not in result.stdout
    assert "at worst  primary  7 attempts, 90 s, $0.054 -> 6 attempts, 60 s, $0.090\n" in result.stdout
    assert "other" not in result.stdout


def test_the_same_is_the_same_however_it_is_written(run, config):
    """Order, quotes, comments and defaults that are written out change nothing."""
    write(
        config,
        old=OLD,
        new=OLD.replace("500}", '"500"} # yes').replace(
            "    limit: tier\n", "    limit: tier\n    retry: {max_attempts: 3}\n"
        ),
    )
    result = run("diff", "old.yaml", "new.yaml")
    assert (result.exit_code, result.stdout) == (0, "nothing changes\n")


def test_numbers_that_are_the_same_are_no_change(run, config):
    """A duration in another unit or without one, a number with underscores, a default that is written out."""
    text = OLD.replace("deadline: 90s", "deadline: 90").replace("500}", "5_00}").replace("input: 1,", "input: 1.0,")
    write(config, old=OLD, new=f"{text}defaults: {{timeout: {{total: 2m}}, retry: {{initial_wait: 0.5}}}}\n")
    result = run("diff", "old.yaml", "new.yaml")
    assert (result.exit_code, result.stdout) == (0, "nothing changes\n")
    kwargs = OLD.replace("limit: tier\n", "limit: tier\n    generate_kwargs: {store: 1}\n")
    write(config, old=kwargs, new=kwargs.replace("store: 1", "store: true"))
    assert "generate_kwargs.store  1 -> true" in run("diff", "old.yaml", "new.yaml").stdout
    write(config, old=OLD, new=OLD.replace("90s", "90ms"))
    assert "deadline  90s -> 90ms" in run("diff", "old.yaml", "new.yaml").stdout


def test_a_broken_file_is_status_2(run, config):
    """With its problems on standard error, or in the JSON; so is a missing one."""
    write(config, old=OLD, new=OLD.replace("deadline: 90s", "deadlin: 90s"))
    result = run("diff", "old.yaml", "new.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "new.yaml:14:45: unknown key `deadlin`" in result.stderr
    result = run("diff", "gone.yaml", "old.yaml", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["problems"][0]["file"] == "gone.yaml"


def test_json_has_the_same(run, config):
    """Changes with their kind, and bounds of every chain."""
    write(config, old=OLD, new=NEW)
    result = run("diff", "old.yaml", "new.yaml", "--json")
    shown = json.loads(result.stdout)
    assert (result.exit_code, shown["same"]) == (1, False)
    assert {"kind": "model", "name": "nano", "change": "added", "settings": []} in shown["changes"]
    (limit,) = [change for change in shown["changes"] if change["kind"] == "limit"]
    assert limit["settings"] == [{"path": "requests_per_minute", "old": "500", "new": "800"}]
    assert [change["name"] for change in shown["changes"] if change["kind"] == "setting"] == ["usage"]
    primary = shown["worst"][0]
    assert primary["old"] == {"attempts": 7, "seconds": 90.0, "may_wait_longer": False, "dearest_call": "0.054"}
    assert primary["new"] == {"attempts": 6, "seconds": 60.0, "may_wait_longer": False, "dearest_call": None}
