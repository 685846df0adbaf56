"""Keys that stand in a configuration itself are in nothing that a ConfigError, or the repr of options, shows."""

import traceback

import pytest

from modelhub import Hub
from modelhub.config.load import load_dict, load_file, load_text
from modelhub.core.errors import ConfigError
from tests.tables import table

KEY = "literal-key-1234567890"
FROM_ENVIRON = "environ-key-1234567890"
CONFIG = {
    "version": 1,
    "models": {
        "m": {
            "provider": "openai",
            "model_name": "m",
            "api_key": KEY,
            "client_args": {"default_headers": {"X-Corp": KEY}},
            "colour": 1,
        },
        "n": {"provider": "openai", "model_name": "m", "api_key": "${API_KEY}"},
    },
}
ENVIRON = {"API_KEY": FROM_ENVIRON}
TEXT = f"""\
version: 1
models:
  m: {{provider: openai, model_name: m, api_key: {KEY}, client_args: {{default_headers: {{X-Corp: {KEY}}}}}, colour: 1}}
  n: {{provider: openai, model_name: m, api_key: "${{API_KEY}}"}}
"""


@table("load", [Hub.from_yaml, Hub.from_dict, load_file, load_text, load_dict])
def test_frames_of_a_refused_configuration_hold_no_key(load, tmp_path):
    """Neither those of the loader nor that of `Hub`: a report shows the caller's own frame."""
    (tmp_path / "models.yaml").write_text(TEXT, encoding="utf-8")
    files = {Hub.from_yaml: tmp_path / "models.yaml", load_file: tmp_path / "models.yaml", load_text: TEXT}
    with pytest.raises(ConfigError, match="unknown key `colour`") as caught:
        load(files.get(load, CONFIG), environ=ENVIRON)
    own, *frames = traceback.walk_tb(caught.value.__traceback__)
    assert own[0].f_code.co_name == "test_frames_of_a_refused_configuration_hold_no_key"
    for frame, _ in frames:
        shown = repr(frame.f_locals)
        assert KEY not in shown
        assert FROM_ENVIRON not in shown
    assert KEY not in str(caught.value)


def test_the_repr_of_options_has_no_credentials():
    """A repr tells which model it is, and no key, header, client argument or password in an address."""
    model = {
        "provider": "openai",
        "model_name": "gpt",
        "api_key": KEY,
        "base_url": "https://me:pass-word-1@example.org/v1",
        "client_args": {"default_headers": {"X-Corp": KEY}, "timeout": 5},
        "generate_kwargs": {"temperature": 0.5},
    }
    loaded = load_dict({"version": 1, "models": {"m": model}}, environ={})
    for shown in (repr(loaded), repr(loaded.models["m"].options), str(loaded.models["m"].options)):
        assert KEY not in shown
        assert "pass-word-1" not in shown
    shown = repr(loaded.models["m"].options)
    assert shown == "OpenAIOptions(provider='openai', model_name='gpt', stream=False)"
