"""A hub's models in other frameworks and behind other protocols; each module is imported only when it is asked for.

`asgi` serves a hub as an OpenAI-compatible endpoint; `pydantic_ai`, `langchain`, `llamaindex`, `openai_agents` and
`agentscope` make a chain a model of those frameworks. Agents of AgentScope take what `hub.get(...)` returns as it is.
"""
