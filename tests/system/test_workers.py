"""A hub in the workers of a pool."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from modelhub import Hub


def ask(hub, name):
    with hub:
        return hub.get(name).sync("hi").text


def test_a_hub_is_an_argument_of_a_worker(tmp_path):
    """Made from a file or a dict, used or not, it is opened again there."""
    (tmp_path / "models.yaml").write_text("version: 1\nmodels: {m: {provider: scripted, reply: from a file}}\n")
    hubs = [
        Hub.from_yaml(tmp_path / "models.yaml"),
        Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted", "reply": "hello"}}}),
    ]
    assert hubs[0].get("m").sync("hi").text == "from a file"
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert list(pool.map(ask, hubs, ["m", "m"])) == ["from a file", "hello"]
    for hub in hubs:
        hub.close()
