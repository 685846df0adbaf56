"""`modelhub check` finds what keeps a client from being made, with place and suggestion."""

import json

import pytest

HEAD = "version: 1\nmodels:\n"
ENTRIES = {
    "a scheme": (
        "  a: {provider: openai, model_name: x, api_key: kkkkkkkk, base_url: 'localhost:8000/v1'}\n",
        ":3:69: model `a`: `base_url`: `localhost:8000/v1` has no scheme",
        "did you mean `http://localhost:8000/v1`?",
    ),
    "a port": (
        "  a: {provider: ollama, model_name: x, host: 'h:99999'}\n",
        ":3:46: model `a`: `host`: the port `99999`",
        "from 1 to 65535",
    ),
    "an argument": (
        "  a: {provider: anthropic, model_name: x, api_key: kkkkkkkk, client_kwargs: {timeot: 3}}\n",
        ":3:86: model `a`: the client takes no argument `timeot`",
        "did you mean `timeout`?",
    ),
    "an API version": (
        """\
  a:
    provider: openai
    model_name: x
    client_type: azure
    base_url: https://x.openai.azure.com
    api_key: kkkkkkkk
    client_args: {api_version: banana}
""",
        ":9:32: model `a`: `api_version` is no version",
        "such as 2024-10-21",
    ),
    "a proxy": (
        "  a: {provider: ollama, model_name: x, client_args: {proxy: 'localhost:1'}}\n",
        ":3:53: model `a`: the Ollama client cannot be made",
        "",
    ),
}


@pytest.mark.parametrize(("entry", "place", "hint"), ENTRIES.values(), ids=ENTRIES)
def test_what_keeps_a_client_from_being_made_is_a_problem(run, tmp_path, entry, place, hint):
    """With file, line and column."""
    path = tmp_path / "models.yaml"
    path.write_text(HEAD + entry, encoding="utf-8")
    result = run("check", "--file", str(path))
    assert result.exit_code == 3
    assert f"{path}{place}" in result.output
    assert hint in result.output


def test_an_address_whose_variable_is_not_set_is_not_configured(run, tmp_path):
    """Its reference is no wrong address."""
    path = tmp_path / "models.yaml"
    path.write_text(
        HEAD + "  a: {provider: openai, model_name: x, api_key: k, base_url: '${NOT_SET}'}\n", encoding="utf-8"
    )
    result = run("check", "--file", str(path))
    assert (result.exit_code, "not configured: set NOT_SET" in result.output) == (0, True)


def test_a_proxy_of_the_environment_that_cannot_be_used_is_a_problem(run, tmp_path, monkeypatch):
    """Its password is not shown."""
    monkeypatch.setenv("HTTPS_PROXY", "http://u:hunter2pw/x@h:1")
    path = tmp_path / "models.yaml"
    path.write_text(f"{HEAD}  a: {{provider: scripted, reply: x}}\n", encoding="utf-8")
    result = run("check", "--file", str(path))
    assert "HTTPS_PROXY cannot be used: the password in `http://h:1` is not escaped" in result.output
    assert "hunter2pw" not in result.output


CREDENTIALS = {
    "none": (None, "File %s was not found"),
    "no JSON": ("nope", "File %s is not a valid json file"),
    "a list": ("[]", "File %s is no JSON object"),
    "fields": (
        '{"type": "service_account", "private_key": "hunter2", "token_uri": "x"}',
        "missing fields client_email",
    ),
}


@pytest.mark.parametrize(("text", "reason"), CREDENTIALS.values(), ids=CREDENTIALS)
def test_a_file_of_credentials_that_vertex_cannot_use_is_a_problem(run, tmp_path, monkeypatch, text, reason):
    """The SDK reads it with the first call; nothing of it is shown, and a key needs no such file."""
    pytest.importorskip("google.auth")
    credentials, path = tmp_path / "key.json", tmp_path / "models.yaml"
    if text is not None:
        credentials.write_text(text, encoding="utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
    entry = "{provider: gemini, model_name: x, client_args: {vertexai: true, project: p, location: global}}"
    path.write_text(
        f"{HEAD}  a: {entry}\n  b: {{provider: gemini, model_name: x, api_key: kkkkkkkk}}\n", encoding="utf-8"
    )
    result = run("check", "--file", str(path))
    assert f"{path}:3:6: model `a`: GOOGLE_APPLICATION_CREDENTIALS cannot be used: " in result.output
    assert reason.replace("%s", str(credentials)) in result.output
    assert "1 problem in" in result.output
    assert "hunter2" not in result.output


VERTEX = "  a: {provider: gemini, model_name: x, client_args: {vertexai: true, project: p, location: global}}\n"


def test_vertex_without_a_file_of_credentials_is_ready_only_if_the_machine_has_an_account(run, tmp_path, monkeypatch):
    """Nobody is contacted to find out, and a deployment with a service account may pass; a key needs none of this."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    path = tmp_path / "models.yaml"
    with_key = "  b: {provider: gemini, model_name: x, client_args: {vertexai: true}, keys: [{api_key: kkkkkkkk}]}\n"
    path.write_text(HEAD + VERTEX + with_key, encoding="utf-8")
    result = run("check", "--strict", "--file", str(path))
    assert "gemini  x  ready if this machine has a" in result.output
    assert result.output.endswith("  b  gemini  x  ready\n")
    assert result.exit_code == 0
    models = json.loads(run("check", "--json", "--file", str(path)).stdout)["models"]
    condition = "this machine has a service account: no file of Google's credentials is found"
    assert [model["unchecked"] for model in models] == [condition, None]


def test_gclouds_file_of_credentials_is_read(run, tmp_path, monkeypatch):
    """The SDK takes it where the environment names none."""
    pytest.importorskip("google.auth")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    path, credentials = tmp_path / "models.yaml", tmp_path / "application_default_credentials.json"
    path.write_text(HEAD + VERTEX, encoding="utf-8")
    user = {"type": "authorized_user", "client_id": "i", "client_secret": "s"}
    credentials.write_text(json.dumps(user), encoding="utf-8")
    result = run("check", "--file", str(path))
    assert "model `a`: gcloud's file cannot be used: " in result.output
    assert "missing fields refresh_token" in result.output
    credentials.write_text(json.dumps({**user, "refresh_token": "t"}), encoding="utf-8")
    assert run("check", "--file", str(path)).output.splitlines()[1].endswith("  ready")
