"""A hub pickles as its configuration, without secrets; copies share it."""

import copy
import pickle

import pytest
from pydantic import BaseModel

from modelhub import Hub
from modelhub.core.context import Services


class City(BaseModel):
    name: str


MODELS = {"m": {"provider": "scripted", "reply": "hello"}}


def config_of(**entry):
    gpt = {"provider": "openai", "model_name": "gpt-5-mini", **entry}
    return {"version": 1, "models": {**MODELS, "gpt": gpt}, "chains": {"main": {"models": ["gpt", "m"]}}}


def test_references_stay_references(tmp_path, monkeypatch):
    """The key is in neither pickle; it is looked up again where the hub is opened."""
    monkeypatch.setenv("MY_KEY", "sk-the-secret-itself")
    (tmp_path / "key").write_text("sk-the-secret-itself")
    for reference in ("${MY_KEY}", f"${{file:{tmp_path / 'key'}}}"):
        data = pickle.dumps(Hub.from_dict(config_of(api_key=reference)))
        assert b"the-secret" not in data
        assert pickle.loads(data).get("gpt").configured
    monkeypatch.delenv("MY_KEY")
    assert not pickle.loads(pickle.dumps(Hub.from_dict(config_of(api_key="${MY_KEY}")))).get("gpt").configured


def test_a_reply_keeps_its_validated_output():
    """The object of the class that was asked for goes along, in a pickle as in a copy, and so do text and figures."""
    with Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted", "reply": '{"name": "Rome"}'}}}) as hub:
        reply = hub.get("m").sync("hi", structured_model=City)
    for copied in (pickle.loads(pickle.dumps(reply)), copy.copy(reply), copy.deepcopy(reply)):
        assert type(copied.output) is City
        assert (copied.output, copied.metadata) == (City(name="Rome"), {"name": "Rome"})
        assert (copied, copied.text, copied.usage) == (reply, reply.text, reply.usage)


def test_changing_the_dict_later_changes_no_pickle():
    """The configuration is the one that the hub was made from."""
    config = config_of(api_key="${MY_KEY}")
    hub = Hub.from_dict(config)
    del config["models"]["m"]
    assert list(pickle.loads(pickle.dumps(hub))) == list(hub) == ["main", "m", "gpt"]


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ({"api_key": "sk-the-secret-itself"}, "models.gpt.api_key"),
        ({"api_key": "${MY_KEY:-sk-the-secret-itself}"}, "models.gpt.api_key"),
        ({"api_key": "${MY_KEY}", "base_url": "https://user:the-secret@host/v1"}, "models.gpt.base_url"),
        (
            {"api_key": "${MY_KEY}", "client_args": {"default_headers": {"x-auth": "the-secret"}}},
            "models.gpt.client_args.default_headers.x-auth",
        ),
    ],
)
def test_a_secret_in_the_configuration_itself_is_refused(entry, place):
    """The error says where it stands, and not what it is."""
    with pytest.raises(
        pickle.PicklingError, match=f"holds a literal secret, at `{place}`: write a reference"
    ) as caught:
        pickle.dumps(Hub.from_dict(config_of(**entry)))
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize(("given", "words"), [({"services": Services()}, "services"), ({"environ": {}}, "environ")])
def test_what_is_of_this_process_alone_is_refused(given, words):
    """The error names it, and says what to do."""
    with pytest.raises(pickle.PicklingError, match=f"made with `{words}`.*make it where it is used"):
        pickle.dumps(Hub.from_dict({"version": 1, "models": MODELS}, **given))


def test_copies_share_the_hub_and_its_models():
    """A settings object that is copied, with the hub in it, has no second ledger or limit."""
    hub = Hub.from_dict({"version": 1, "models": MODELS})
    model = hub.get("m")
    copied = copy.deepcopy({"hub": hub, "model": model})
    assert (copied["hub"], copied["model"], copy.copy(hub), copy.copy(model)) == (hub, model, hub, model)
    with pytest.raises(pickle.PicklingError, match="`m` cannot be pickled: pass its hub"):
        pickle.dumps(model)
