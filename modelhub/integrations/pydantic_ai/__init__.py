"""A chain as a model of Pydantic AI (extra `pydantic-ai`).

    from pydantic_ai import Agent

    from modelhub import Hub
    from modelhub.integrations.pydantic_ai import ModelHubModel

    hub = Hub.from_yaml("models.yaml")
    agent = Agent(ModelHubModel(hub.get("primary")), instructions="Be brief.")
    result = await agent.run("Why is the sky blue?")

Tools, output types (as tools, native or prompted), streams, images and other media, thinking and usage work as with
Pydantic AI's own models; retries, fallbacks, limits and budgets are the chain's. `ModelSettings` are spelled for
whichever vendor answers: `timeout` is the deadline of the call, `thinking` the reasoning effort. The response's
`provider_details` name the entry that answered, its vendor and how many attempts were made.

A failure is Pydantic AI's `ModelHTTPError` if it has a status, else its `ModelAPIError`; `__cause__` is modelhub's.

If a stream breaks after its first words, another model would begin the answer again, and readers of deltas would see
two answers: with `restarts="error"`, the default, the stream fails; with `restarts="buffer"`, streams are held back
until the answer is complete, which no broken stream can then spoil. `agent.run()` is not affected.
"""

from __future__ import annotations

from modelhub.integrations.pydantic_ai.model import ModelHubModel

__all__ = ["ModelHubModel"]
