"""Translate the configuration of a LiteLLM proxy (`config.yaml`) into a file.

The keys are those of LiteLLM's documentation of its proxy: https://docs.litellm.ai/docs/proxy/config_settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

__all__ = ["Translation", "translate"]

_VENDORS: dict[str, dict[str, Any]] = {
    "openai": {"provider": "openai"},
    "azure": {"provider": "openai", "client_type": "azure"},
    "anthropic": {"provider": "anthropic"},
    "gemini": {"provider": "gemini"},
    "vertex_ai": {"provider": "gemini", "client_args": {"vertexai": True}},
    "dashscope": {"provider": "dashscope"},
    "ollama": {"provider": "ollama"},
    "ollama_chat": {"provider": "ollama"},
    **{
        prefix: {"provider": "openai", "compat": compat}
        for prefix, compat in {
            "deepseek": "deepseek",
            "groq": "groq",
            "mistral": "mistral",
            "openrouter": "openrouter",
            "xai": "xai",
            "hosted_vllm": "vllm",
            "lm_studio": "lmstudio",
        }.items()
    },
}
"""What the prefix of a model's name means, such as "anthropic/claude-sonnet-5"."""
_BARE_NAMES = (("gpt", "openai"), ("o1", "openai"), ("o3", "openai"), ("o4", "openai"), ("claude", "anthropic"))
_PARAMETERS = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "reasoning_effort",
    "parallel_tool_calls",
    "response_format",
    "user",
)
_HARMLESS = {"drop_params", "set_verbose", "json_logs", "turn_off_message_logging", "telemetry"}
"""Settings whose purpose is the default here."""
_STRATEGIES: dict[str, dict[str, Any]] = {"simple-shuffle": {}, "least-busy": {"pick": "least_busy"}}
_LIMITS = {
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "max_parallel_requests": "concurrency",
}
_TIMEOUTS = {"timeout": "total", "stream_timeout": "first_token"}
_PRICES = {"input_cost_per_token": "input", "output_cost_per_token": "output"}
_FALLBACK_KEYS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


@dataclass
class Translation:
    """A file, as a mapping, and what could not be translated, in words."""

    config: dict[str, Any] = field(default_factory=lambda: {"version": 1, "models": {}, "chains": {}})
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Deployment:
    name: str
    weight: float
    order: float


@dataclass(frozen=True, slots=True)
class _Fallbacks:
    """The fallbacks of groups, for each key of _FALLBACK_KEYS, and of all groups; other names of groups."""

    by_key: Mapping[str, Mapping[str, list[str]]]
    of_all: list[str]
    aliases: Mapping[str, str]


def translate(source: Mapping[str, Any]) -> Translation:
    """Return the file that means what *source*, a LiteLLM configuration, means, and what could not be translated.

    Each `model_name` is a name that the application can go on calling: a model, or a chain if it has fallbacks or more
    than one deployment. Raises ValueError if *source* has no models.
    """
    listed = source.get("model_list")
    if not isinstance(listed, list) or not listed:
        raise ValueError("no `model_list`: this is not the configuration of a LiteLLM proxy")
    result = Translation()
    router = {**(source.get("litellm_settings") or {}), **(source.get("router_settings") or {})}
    fallbacks = _read_fallbacks(router)
    items = [item for item in listed if isinstance(item, dict) and item.get("model_name")]
    chained = (
        {str(item["model_name"]) for item in items} if fallbacks.of_all else set().union(*fallbacks.by_key.values())
    )
    groups = _translate_models(items, chained, result)
    pick = _translate_router(router, result)
    _make_chains(groups, fallbacks, pick, result)
    _make_aliases(groups, fallbacks, result)
    for section in sorted(source.keys() - {"model_list", "router_settings", "litellm_settings"}):
        result.notes.append(f"`{section}` has no counterpart in the file")
    result.config = {key: value for key, value in result.config.items() if value}
    return result


def _read_fallbacks(router: dict[str, Any]) -> _Fallbacks:
    """Take the fallbacks and the aliases of groups out of *router*."""
    by_key: dict[str, dict[str, list[str]]] = {}
    for key in _FALLBACK_KEYS:
        mappings = [item for item in router.pop(key, None) or [] if isinstance(item, dict)]  # with one group each
        by_key[key] = {
            str(group): [target for target in targets or () if isinstance(target, str)]
            for mapping in mappings
            for group, targets in mapping.items()
        }
    of_all = [*by_key["fallbacks"].pop("*", ()), *(router.pop("default_fallbacks", None) or ())]
    aliases = router.pop("model_group_alias", None) or {}
    if not isinstance(aliases, dict):
        raise ValueError("`model_group_alias` must be a mapping")
    names = {}
    for name, group in aliases.items():
        names[str(name)] = str(group.get("model") if isinstance(group, dict) else group)
    return _Fallbacks(by_key, of_all, names)


# -- models ------------------------------------------------------------------------------------------------------------


def _translate_models(
    items: list[dict[str, Any]], chained: Collection[str], result: Translation
) -> dict[str, list[_Deployment]]:
    """Translate every deployment, and return those of each group, by the group's name.

    A group with one deployment gives it its name, unless that is needed for a chain (*chained*).
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        groups.setdefault(str(item["model_name"]), []).append(item)
    taken = {_make_name(group) for group in groups}
    deployments: dict[str, list[_Deployment]] = {}
    for group, members in groups.items():
        name = _make_name(group)
        for member in members:
            own = name
            if len(members) > 1 or group in chained:
                own = next(numbered for numbered in (f"{name}-{n}" for n in count(1)) if numbered not in taken)
            taken.add(own)
            parameters = dict(member.get("litellm_params") or {})
            weight, order = (parameters.pop(key, None) or 1 for key in ("weight", "order"))
            entry = _translate_entry(own, group, parameters, member.get("model_info") or {}, result)
            if entry is not None:
                result.config["models"][own] = entry
                deployments.setdefault(group, []).append(_Deployment(own, weight, order))
    return deployments


def _make_name(group: str) -> str:
    """Return *group* as a name of the file, which has letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", group).strip("-._") or "model"


def _translate_entry(
    name: str, group: str, parameters: dict[str, Any], info: Mapping[str, Any], result: Translation
) -> dict[str, Any] | None:
    """Return the entry of one deployment of *group*, or None if there can be none. Uses up *parameters*."""
    full_name = str(parameters.pop("model", ""))
    if "*" in f"{group}{full_name}":
        result.notes.append(
            f"`{group}`: a name with `*` stands for every model of a vendor, and cannot be translated; "
            "write an entry for each model that is called"
        )
        return None
    prefix, separator, model_name = full_name.partition("/")
    if not separator:
        model_name = full_name
        prefix = next((vendor for start, vendor in _BARE_NAMES if full_name.startswith(start)), "")
    if prefix not in _VENDORS:
        result.notes.append(f"`{name}`: no provider for `{full_name}`; the model is left out")
        return None
    entry: dict[str, Any] = {**_VENDORS[prefix], "model_name": model_name}
    if prefix == "ollama":
        result.notes.append(f"`{name}`: `ollama/` completes prompts in LiteLLM; here it chats")
    _translate_key(name, entry, parameters, result)
    _translate_account(entry, parameters)
    entry |= _translate_sections(parameters, info)
    for key in sorted(parameters.keys() - _PRICES.keys()):
        result.notes.append(f"`{name}`: `{key}` has no counterpart")
    return entry


def _translate_sections(parameters: dict[str, Any], info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections of an entry. Uses up *parameters*, all but prices, which *info* may have too."""
    known = {**info, **parameters}
    prices = {ours: known[theirs] for theirs, ours in _PRICES.items() if known.get(theirs) is not None}
    if len(prices) < 2:  # one alone is no price
        prices = {}
    retries = parameters.pop("num_retries", parameters.pop("max_retries", None))
    sections = {
        "limit": {ours: parameters.pop(theirs) for theirs, ours in _LIMITS.items() if theirs in parameters},
        "timeout": {ours: parameters.pop(theirs) for theirs, ours in _TIMEOUTS.items() if theirs in parameters},
        "retry": {} if retries is None else {"max_attempts": int(retries) + 1},
        # Prices are for one token there, and for a million here.
        "pricing": {name: round(float(price) * 1_000_000, 6) for name, price in prices.items()},
        "ask": {name: parameters.pop(name) for name in _PARAMETERS if name in parameters},
    }
    return {name: section for name, section in sections.items() if section}


def _translate_key(name: str, entry: dict[str, Any], parameters: dict[str, Any], result: Translation) -> None:
    """Translate the reference to a key; a key that is written out becomes a reference to a variable."""
    key = parameters.pop("api_key", None)
    if key is None:
        return
    if str(key).startswith("os.environ/"):
        entry["api_key"] = _translate_reference(key)
    elif entry.get("compat") == "vllm" or key in {"none", "dummy", "fake-key"}:
        entry["api_key"] = "none"
    else:
        variable = re.sub(r"\W", "_", f"{name}_API_KEY").upper()
        entry["api_key"] = f"${{{variable}}}"
        result.notes.append(f"`{name}`: its key is written in the file, and was left there: set {variable}")


def _translate_account(entry: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Translate the address, and what says which project or organization pays."""
    base, version = parameters.pop("api_base", None), parameters.pop("api_version", None)
    arguments = dict(entry.get("client_args") or {})
    if entry.get("client_type") == "azure":
        arguments |= {"azure_endpoint": _translate_reference(base)} if base else {}
        arguments |= {"api_version": _translate_reference(version)} if version else {}
    elif base:
        entry["base_url"] = _translate_reference(base)
    for theirs, ours in (("vertex_project", "project"), ("vertex_location", "location")):
        if theirs in parameters:
            arguments[ours] = _translate_reference(parameters.pop(theirs))
    if "extra_headers" in parameters:
        arguments["default_headers"] = parameters.pop("extra_headers")
    if "organization" in parameters:
        entry["organization"] = _translate_reference(parameters.pop("organization"))
    if arguments:
        entry["client_args"] = arguments


def _translate_reference(value: Any) -> Any:
    """Return "os.environ/NAME" as "${NAME}", and anything else as it is."""
    return re.sub(r"^os\.environ/(\w+)$", r"${\1}", value) if isinstance(value, str) else value


# -- what holds for all ------------------------------------------------------------------------------------------------


def _translate_router(settings: dict[str, Any], result: Translation) -> dict[str, Any]:
    """Translate what holds for every model; return how a place with several deployments picks one."""
    pick: dict[str, Any] = {}
    for key, value in settings.items():
        if key in _SETTINGS:
            section, name, convert = _SETTINGS[key]
            result.config.setdefault("defaults", {}).setdefault(section, {})[name] = convert(value)
        elif key == "routing_strategy" and value in _STRATEGIES:
            pick = _STRATEGIES[value]
        elif key in _EXPLAINED:
            result.notes.append(f"`{key}`: {_EXPLAINED[key]}")
        elif key not in _HARMLESS:
            result.notes.append(f"`{key}` has no counterpart")
    return pick


_SETTINGS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "num_retries": ("retry", "max_attempts", lambda retries: int(retries) + 1),
    "timeout": ("timeout", "total", lambda seconds: seconds),
    "request_timeout": ("timeout", "total", lambda seconds: seconds),
    "stream_timeout": ("timeout", "first_token", lambda seconds: seconds),
    "allowed_fails": ("breaker", "failures", lambda failures: int(failures) + 1),
    "cooldown_time": ("breaker", "pause", lambda seconds: seconds),
}
"""The section and the key of a setting, and how its value is written here."""
_EXPLAINED = {
    "retry_policy": "what is retried depends on the class of the failure: see `modelhub explain --failures`",
    "routing_strategy": "deployments are picked by weight, by a tag, or `pick: least_busy`",
    "redis_host": "limits over several processes are `shared: {url: ...}`",
    "redis_url": "limits over several processes are `shared: {url: ...}`",
    "cache": "answers are not stored; vendors' prompt caches are `prompt_cache:`",
    "callbacks": "OpenTelemetry and structlog are built in; budgets and usage are `usage:` and `budgets:`",
    "success_callback": "OpenTelemetry and structlog are built in; budgets and usage are `usage:` and `budgets:`",
    "failure_callback": "OpenTelemetry and structlog are built in; budgets and usage are `usage:` and `budgets:`",
}


# -- chains ------------------------------------------------------------------------------------------------------------


def _make_chains(
    groups: Mapping[str, list[_Deployment]], fallbacks: _Fallbacks, pick: Mapping[str, Any], result: Translation
) -> None:
    """Write a chain for each group that has fallbacks or several deployments, under the group's name."""
    for key, targets in fallbacks.by_key.items():
        result.notes += [f"`{key}`: `{group}` is not among the models" for group in targets if group not in groups]
    for group, deployments in groups.items():
        places = [*_make_places(deployments, pick)]
        for target in _list_targets(group, groups, fallbacks, result):
            places += _make_places(groups[target], pick)
        name = _make_name(group)
        if places != [name]:
            result.config["chains"][name] = {"models": places}
            if group in fallbacks.by_key["content_policy_fallbacks"]:
                result.config["chains"][name]["fallback_on"] = ["ContentBlocked"]


def _list_targets(group: str, groups: Collection[str], fallbacks: _Fallbacks, result: Translation) -> dict[str, None]:
    """Return the groups that *group* falls back to, in order: those after certain failures only come last."""
    targets: dict[str, None] = {}
    for key, by_group in fallbacks.by_key.items():
        for name in (*by_group.get(group, ()), *(fallbacks.of_all if key == "fallbacks" else ())):
            target = fallbacks.aliases.get(name, name)
            if target not in groups:
                result.notes.append(f"`{group}` falls back to `{name}`, which is not among the models")
            elif target != group and target not in targets:
                targets[target] = None
                if key != "fallbacks":
                    result.notes.append(
                        f"`{key}`: `{group}` goes on to `{target}` after every failure that falls back, "
                        "not after this one only"
                    )
    return targets


def _make_aliases(groups: Collection[str], fallbacks: _Fallbacks, result: Translation) -> None:
    """Write a chain of one for each other name of a group."""
    for alias, group in fallbacks.aliases.items():
        name = _make_name(alias)
        if group not in groups:
            result.notes.append(f"`model_group_alias`: `{alias}` is `{group}`, which is not among the models")
        elif name in result.config["models"] or name in result.config["chains"]:
            result.notes.append(f"`model_group_alias`: `{alias}` is the name of a model too, which is kept")
        else:
            result.config["chains"][name] = {"models": [_make_name(group)]}


def _make_places(deployments: list[_Deployment], pick: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the places of a group in a chain: one for each `order`, with the deployments of that order as its arms."""
    for order in sorted({deployment.order for deployment in deployments}):
        arms = {deployment.name: deployment.weight for deployment in deployments if deployment.order == order}
        yield {"arms": arms, **pick} if len(arms) > 1 else next(iter(arms))
