"""`modelhub import`: another library's file, translated."""

from __future__ import annotations

import pytest
import yaml

from modelhub import Hub
from modelhub.cli.exit import Exit
from tests.tables import table

LITELLM = """\
model_list:
  - model_name: gpt
    litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/OPENAI_API_KEY, rpm: 500, tpm: 200000, weight: 3}
  - model_name: gpt
    litellm_params:
      model: azure/my-deployment
      api_key: os.environ/AZURE_API_KEY
      api_base: os.environ/AZURE_BASE
      api_version: "2024-10-21"
      temperature: 0.2
  - model_name: claude/best
    litellm_params: {model: claude-sonnet-5, api_key: os.environ/ANTHROPIC_API_KEY, timeout: 60, num_retries: 1}
    model_info: {input_cost_per_token: 0.000003, output_cost_per_token: 0.000015}
  - model_name: local
    litellm_params: {model: hosted_vllm/qwen3, api_base: "http://127.0.0.1:8000/v1", api_key: none, tags: [a]}
  - model_name: "anthropic/*"
    litellm_params: {model: "anthropic/*", api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: titan
    litellm_params: {model: bedrock/amazon.titan, aws_region_name: us-east-1}
router_settings:
  routing_strategy: least-busy
  num_retries: 2
  cooldown_time: 5
  fallbacks: [{gpt: [claude/best, local, titan]}]
litellm_settings: {drop_params: true, callbacks: [langfuse], request_timeout: 90}
general_settings: {master_key: sk-1234}
"""


@pytest.fixture(name="source")
def _source(config):
    path = config.parent / "config.yaml"
    path.write_text(LITELLM, encoding="utf-8")
    return path


def test_a_litellm_file_becomes_one_of_ours(run, source):
    """Names, accounts, limits, prices and parameters are translated; a group with fallbacks becomes a chain."""
    result = run("import", "litellm", "config.yaml")
    file = yaml.safe_load(result.stdout)
    assert file["models"] == {
        "gpt-1": {
            "provider": "openai",
            "model_name": "gpt-5-mini",
            "api_key": "${OPENAI_API_KEY}",
            "limit": {"requests_per_minute": 500, "tokens_per_minute": 200000},
        },
        "gpt-2": {
            "provider": "openai",
            "client_type": "azure",
            "model_name": "my-deployment",
            "api_key": "${AZURE_API_KEY}",
            "client_args": {"azure_endpoint": "${AZURE_BASE}", "api_version": "2024-10-21"},
            "ask": {"temperature": 0.2},
        },
        "claude-best": {
            "provider": "anthropic",
            "model_name": "claude-sonnet-5",
            "api_key": "${ANTHROPIC_API_KEY}",
            "timeout": {"total": 60},
            "retry": {"max_attempts": 2},
            "pricing": {"input": 3.0, "output": 15.0},
        },
        "local": {
            "provider": "openai",
            "compat": "vllm",
            "model_name": "qwen3",
            "api_key": "none",
            "base_url": "http://127.0.0.1:8000/v1",
        },
    }
    arms = {"arms": {"gpt-1": 3, "gpt-2": 1}, "pick": "least_busy"}
    assert file["chains"] == {"gpt": {"models": [arms, "claude-best", "local"]}}
    assert file["defaults"] == {
        "retry": {"max_attempts": 3},
        "breaker": {"pause": 5},
        "timeout": {"total": 90},
    }


def test_the_translation_loads(run, source):
    """What is printed is a file that a hub opens."""
    with Hub.from_dict(yaml.safe_load(run("import", "litellm", "config.yaml").stdout), environ={}) as hub:
        assert {*hub} == {"gpt-1", "gpt-2", "claude-best", "local", "gpt"}


def test_what_is_not_translated_is_said(run, source):
    """On standard error, and in comments at the top; no secret is in either."""
    result = run("import", "litellm", "config.yaml", "--output", "new.yaml")
    text = (source.parent / "new.yaml").read_text(encoding="utf-8")
    for note in (
        "`titan`: no provider for `bedrock/amazon.titan`; the model is left out",
        "`anthropic/*`: a name with `*` stands for every model of a vendor, and cannot be translated",
        "`gpt` falls back to `titan`, which is not among the models",
        "`local`: `tags` has no counterpart",
        "`callbacks`: OpenTelemetry and structlog are built in",
        "`general_settings` has no counterpart in the file",
    ):
        assert f"not translated: {note}" in result.stderr
        assert f"#   {note}" in text
    assert "sk-1234" not in text + result.output


def test_a_group_alone_keeps_its_name_as_a_model(run, config):
    """Without fallbacks there is nothing to chain; names that are taken are not used twice."""
    config.write_text(
        "model_list: [{model_name: a, litellm_params: {model: gpt-5, api_key: sk-9876}}, "
        "{model_name: b, litellm_params: {model: xai/grok-4}}, {model_name: b, litellm_params: {model: groq/llama}}, "
        "{model_name: b-1, litellm_params: {model: o3}}]"
    )
    result = run("import", "litellm", "models.yaml")
    file = yaml.safe_load(result.stdout)
    assert [*file["models"]] == ["a", "b-2", "b-3", "b-1"]
    assert file["models"]["a"]["api_key"] == "${A_API_KEY}"
    assert "`a`: its key is written in the file, and was left there: set A_API_KEY" in result.stderr
    assert "sk-9876" not in result.output
    assert file["chains"] == {"b": {"models": [{"arms": {"b-2": 1, "b-3": 1}}]}}


ROUTED = """\
model_list:
  - {model_name: gpt, litellm_params: {model: gpt-5}}
  - {model_name: small, litellm_params: {model: o3}}
  - {model_name: long, litellm_params: {model: gemini/gemini-2.5-pro}}
  - {model_name: lenient, litellm_params: {model: groq/llama}}
"""
ROUTERS = {
    "a prompt that is too long": (
        "{fallbacks: [{gpt: [small]}], context_window_fallbacks: [{gpt: [long, small]}]}",
        {"gpt": {"models": ["gpt-1", "small", "long"]}},
        "`context_window_fallbacks`: `gpt` goes on to `long` after every failure that falls back, not after this one",
    ),
    "refused content": (
        "{content_policy_fallbacks: [{gpt: [lenient]}]}",
        {"gpt": {"models": ["gpt-1", "lenient"], "fallback_on": ["ContentBlocked"]}},
        "`content_policy_fallbacks`: `gpt` goes on to `lenient`",
    ),
    "a group that is not there": ("{fallbacks: [{nano: [gpt]}]}", None, "`fallbacks`: `nano` is not among the models"),
    "any group": (
        '{fallbacks: [{"*": [small]}]}',
        {group: {"models": [f"{group}-1", "small-1"]} for group in ("gpt", "long", "lenient")}
        | {"small": {"models": ["small-1"]}},
        "",
    ),
    "other names": (
        "{model_group_alias: {gpt-4: gpt, o-3: {model: small, hidden: true}}, fallbacks: [{gpt: [o-3]}]}",
        {"gpt": {"models": ["gpt-1", "small"]}, "gpt-4": {"models": ["gpt"]}, "o-3": {"models": ["small"]}},
        "",
    ),
    "another name of nothing": (
        "{model_group_alias: {gpt-4: nano}}",
        None,
        "`model_group_alias`: `gpt-4` is `nano`, which is not among the models",
    ),
    "a name twice": ("{model_group_alias: {gpt: small}}", None, "`model_group_alias`: `gpt` is the name of a model"),
}


@table(("router", "chains", "note"), ROUTERS.values(), ids=ROUTERS)
def test_what_a_group_falls_back_to_is_in_its_chain(run, config, router, chains, note):
    """For whatever failure it was meant; what that changes is said. What is written loads."""
    config.write_text(f"{ROUTED}router_settings: {router}\n")
    result = run("import", "litellm", "models.yaml")
    file = yaml.safe_load(result.stdout)
    assert file.get("chains") == chains
    assert note in result.stderr
    assert note or "not translated" not in result.stderr
    Hub.from_dict(file, environ={}).close()


@table(
    ("arguments", "status", "message"),
    [
        (["langchain", "config.yaml"], Exit.USAGE, "not a library whose files can be read (there is: litellm)"),
        (["litellm", "none.yaml"], Exit.CONFIG, "none.yaml: the file cannot be read: no such file or directory"),
        (["litellm", "models.yaml"], Exit.CONFIG, "no `model_list`"),
        (["litellm", "config.yaml", "-o", "models.yaml"], Exit.FAILED, "models.yaml exists; nothing was written"),
    ],
)
def test_a_wrong_file_is_an_error(run, source, arguments, status, message):
    """What cannot be read, or would be overwritten, is said in one line."""
    result = run("import", *arguments)
    assert result.exit_code == status
    assert message in result.stderr


def test_a_file_that_is_no_yaml_says_where_and_shows_no_text_of_it(run, config):
    """The line may have a key."""
    config.write_text("model_list: [{api_key: sk-9876\n")
    result = run("import", "litellm", "models.yaml")
    assert result.exit_code == Exit.CONFIG
    assert "models.yaml:1:" in result.stderr
    assert "is not closed" in result.stderr
    assert "sk-9876" not in result.output
