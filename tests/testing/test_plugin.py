"""The pytest fixtures, as a user's tests have them."""

import pytest

from modelhub import AllModelsFailed, Overloaded, RateLimited
from modelhub.testing import faults
from modelhub.testing.pytest_plugin import fault_server, hub_faults

__all__ = ["fault_server", "hub_faults"]

pytest_plugins = ["pytester"]

CONFIG = {
    "version": 1,
    "defaults": {"retry": {"max_attempts": 2, "initial_wait": 0}},
    "models": {
        "gpt": {"provider": "openai", "model_name": "gpt-5-mini", "api_key": "${OPENAI_API_KEY}"},
        "claude": {"provider": "anthropic", "model_name": "claude-sonnet-5"},
    },
    "chains": {"primary": {"models": ["gpt", "claude"]}},
}

USERS_TEST = """
    import pytest

    @pytest.fixture
    def hub(hub_faults):
        return hub_faults.hub("models.yaml")

    def test_without_a_loop(hub, hub_faults):
        hub_faults.fail("gpt", 503)
        reply = hub.get("primary").sync("hi")
        assert reply.model == "spare"
        assert [request.attempt for request in hub_faults.requests("gpt")] == [1, 2]

    async def test_with_one(hub_faults):
        async with hub_faults.hub() as hub:
            hub_faults.fail("gpt", 429, retry_after=0, then="healthy")
            assert (await hub.get("gpt")("hi")).model == "gpt"

    def test_the_server_alone(fault_server):
        assert fault_server.url("any").endswith("/any")
"""


async def test_a_model_fails_and_is_healed(hub_faults):
    """Statuses with details, faults of every kind, and health again."""
    async with hub_faults.hub(CONFIG) as hub:
        gpt, primary = hub.get("gpt"), hub.get("primary")
        hub_faults.fail("gpt", 429, retry_after=3600)
        with pytest.raises(RateLimited) as caught:
            await gpt("hi", deadline=5)
        assert caught.value.retry_after == 3600
        assert (await primary("hi")).model == "claude"
        hub_faults.fail("claude", faults.cut(after=5))
        with pytest.raises(AllModelsFailed):
            await primary("hi")
        hub_faults.heal("claude")
        assert (await primary("hi")).model == "claude"
    assert [request.attempt for request in hub_faults.requests("gpt")] == [1]


async def test_faults_in_a_row(hub_faults):
    """Each is played once; `then` says what comes after the last."""
    async with hub_faults.hub(CONFIG) as hub:
        hub_faults.fail("gpt", 500, faults.reset(), then="healthy")
        with pytest.raises(Exception, match=r"."):
            await hub.get("gpt")("hi")
        assert (await hub.get("gpt")("hi")).model == "gpt"
        hub_faults.fail("gpt", faults.refused())
        assert (await hub.get("primary")("hi")).model == "claude"
        hub_faults.fail("gpt", 503, kind="overloaded")
        with pytest.raises(Overloaded):
            await hub.get("gpt")("hi")


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that leads nowhere."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


async def test_a_proxy_is_not_in_the_way(proxy, hub_faults):
    """The server is on this machine, whatever leads out of it."""
    async with hub_faults.hub(CONFIG) as hub:
        assert (await hub.get("gpt")("hi")).model == "gpt"
        assert (await hub.get("claude")("hi")).model == "claude"


def test_a_slip_of_the_pen_is_noticed(hub_faults):
    """Unknown models and details that belong to nothing are errors, not faults that never come."""
    hub_faults.hub(CONFIG)
    with pytest.raises(ValueError, match=r"no model is called `gtp` .*gpt, claude"):
        hub_faults.fail("gtp", 503)
    with pytest.raises(TypeError, match="retry_after"):
        hub_faults.fail("gpt", faults.reset(), retry_after=2)


def test_a_user_loads_it_by_one_line(pytester, monkeypatch):
    """One line in a conftest, one file of models, and no key anywhere."""
    pytester.makeconftest('pytest_plugins = ["modelhub.testing.pytest_plugin"]')
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error"
    )
    path = pytester.path / "models.yaml"
    path.write_text(
        "version: 1\n"
        "defaults: {retry: {max_attempts: 2, initial_wait: 0}}\n"
        "models:\n"
        "  gpt: {provider: ollama, model_name: gpt-oss, api_key: '${OLLAMA_API_KEY}'}\n"
        "  spare: {provider: ollama, model_name: qwen3, api_key: '${SPARE_API_KEY}'}\n"
        "chains: {primary: {models: [gpt, spare]}}\n"
    )
    pytester.makepyfile(USERS_TEST)
    # In a process of its own: inside this one, pytest would unload modules again of which others keep parts.
    pytester.runpytest_subprocess().assert_outcomes(passed=3)
