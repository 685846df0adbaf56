"""What each model of a chain makes of a call: what is sent as it is, spelled otherwise, dropped or refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modelhub.build import connect_model
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.providers.base import Provider

if TYPE_CHECKING:
    from modelhub.cli.fit.shape import CallShape
    from modelhub.config.load import Loaded, ModelEntry
    from modelhub.providers.parameter_resolver import RequestTrial

__all__ = ["Fit", "MemberFit", "fit_members"]

Verdict = Literal["as it is", "spelled", "rounded", "dropped", "refused"]


@dataclass(frozen=True, slots=True)
class Fit:
    """What a model makes of one thing that a call asks for; *detail* is the spelling, or the reason."""

    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MemberFit:
    """What one model of a chain makes of a call, by what the call asks for."""

    model: str
    provider: str
    fits: Mapping[str, Fit]

    @property
    def refuses(self) -> bool:
        """Whether the model would refuse the call, or not be asked."""
        return any(fit.verdict == "refused" for fit in self.fits.values())


def fit_members(loaded: Loaded, name: str, shape: CallShape) -> Iterator[MemberFit]:
    """Yield what each model of the chain or model *name* makes of a call of this *shape*; no key is needed."""
    for entry, ask in _find_members(loaded, name, {}):
        options = {**ask, **shape.parameters}
        model = connect_model(loaded, entry, Services())
        fits = _fit(model, shape, options) if isinstance(model, Provider) else {}
        yield MemberFit(entry.name, entry.provider, fits)


def _find_members(loaded: Loaded, name: str, ask: Mapping[str, Any]) -> Iterator[tuple[ModelEntry, Mapping[str, Any]]]:
    """Yield each model of *name*, with what the chains around it ask for."""
    chain = loaded.chains.get(name)
    if chain is None:
        if loaded.models[name].options is not None:
            yield loaded.models[name], ask
        return
    own = {} if chain.ask is None else chain.ask.given()
    for member in chain.member_names():
        yield from _find_members(loaded, member, {**own, **ask})


def _fit(model: Provider, shape: CallShape, options: Mapping[str, Any]) -> dict[str, Fit]:
    fits: dict[str, Fit] = {}
    if shape.tools:
        fits["tools"] = _fit_part(model, shape, tools=True)
    for tool in shape.native_tools:
        fits[tool] = _fit_part(model, shape, native_tools=(tool,))
    for kind in shape.media:
        fits[kind] = _fit_part(model, shape, media=(kind,))
    if shape.schema is not None:
        fits["schema"] = _fit_part(model, shape, schema=True)
    # What a model does not take at all must not pass for a refusal of the parameters beside it.
    parts = {name: name in fits and fits[name].verdict != "refused" for name in ("tools", "schema")}
    return fits | _fit_parameters(model, shape, parts, options)


_METHODS = {"native": Fit("as it is"), "tool": Fit("spelled", "as a tool"), "prompt": Fit("spelled", "in words")}
"""How a model is asked for a structured answer."""


def _fit_part(model: Provider, shape: CallShape, **part: Any) -> Fit:
    """Return whether the model takes a request with this *part* of the shape, by writing it as it would be sent."""
    request = shape.make_request(**part)
    try:
        model.write_trial(request, shape.stream)
    except CallError as error:
        return Fit("refused", str(error))
    return _METHODS[model.structured_method(request)] if part.get("schema") else Fit("as it is")


def _fit_parameters(
    model: Provider, shape: CallShape, parts: Mapping[str, bool], options: Mapping[str, Any]
) -> dict[str, Fit]:
    """Return what becomes of each of *options*, which are resolved together: some depend on each other."""
    try:
        trial = model.write_trial(
            shape.make_request(tools=parts["tools"], schema=parts["schema"], options=options), shape.stream
        )
    except CallError as error:
        if len(options) <= 1:
            return {name: Fit("refused", str(error)) for name in options}
        fits: dict[str, Fit] = {}
        for name, value in options.items():
            fits |= _fit_parameters(model, shape, parts, {name: value})
        return fits
    return {name: _describe(name, value, trial) for name, value in options.items()}


def _describe(name: str, value: Any, trial: RequestTrial) -> Fit:
    sent, vocabulary = trial.sent, trial.vocabulary
    if sent is None or vocabulary is None:
        return Fit("as it is")
    canonical = vocabulary.canonical_name(name)
    if canonical in sent.dropped:
        return Fit("dropped", sent.dropped[canonical])
    if canonical in sent.rounded:
        return Fit("rounded", sent.rounded[canonical])
    spelling = vocabulary.spellings.get(canonical)
    written = name if spelling is None or trial.body.get(name) == value else spelling.describe().replace("`", "")
    return Fit("as it is") if written == name else Fit("spelled", written)
