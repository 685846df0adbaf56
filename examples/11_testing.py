"""A test of an app's chain: a local server stands for every vendor, fails as it is told, and time is virtual."""

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.testing import FaultServer, VirtualClock, faults, reroute_config, run_virtual

CONFIG = {
    "version": 1,
    "models": {
        "gpt": {"provider": "openai", "model_name": "gpt-5-mini"},
        "claude": {"provider": "anthropic", "model_name": "claude-sonnet-5"},
    },
    "chains": {"primary": {"models": ["gpt", "claude"], "deadline": "5m"}},
}


async def main() -> None:
    clock = VirtualClock()
    async with FaultServer() as server:
        server.script("gpt", faults.silence())
        async with Hub.from_dict(reroute_config(CONFIG, server), services=Services(clock=clock)) as hub:
            reply = await (await hub.get("primary").stream("Hello")).final()
            first = reply.attempts[0]
            print(f"answered by {reply.model} after {first.duration:.0f} s of {first.outcome}")
            print(f"gpt was asked {len(server.requests('gpt'))} times")


run_virtual(main())
