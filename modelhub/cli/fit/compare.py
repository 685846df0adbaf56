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
    for member in chain.models:
        yield from _find_members(loaded, member, {**own, **ask})


def _fit(model: Provider, shape: CallShape, options: Mapping[str, Any]) -> dict[str, Fit]:
    fits: dict[str, Fit] = {}
    if shape.tools:
        fits["tools"] = _try(model, shape, tools=True)
    if shape.image:
        fits["image"] = _try(model, shape, image=True)
    if shape.schema is not None:
        fits["schema"] = _try(model, shape, schema=True)
    for name in options:
        fits[name] = _fit_parameter(model, shape, name, options)
    return fits


def _try(model: Provider, shape: CallShape, *, tools: bool = False, image: bool = False, schema: bool = False) -> Fit:
    """Return whether the model takes a request with one of these, by writing it as it would be sent."""
    request = shape.make_request(tools=tools, image=image, schema=schema, options={})
    try:
        model.write_trial(request, shape.stream)
    except CallError as error:
        return Fit("refused", str(error))
    method = model.structured_method(request) if schema else "native"
    return (
        Fit("as it is") if method == "native" else Fit("spelled", {"tool": "as a tool", "prompt": "in words"}[method])
    )


def _fit_parameter(model: Provider, shape: CallShape, name: str, options: Mapping[str, Any]) -> Fit:
    request = shape.make_request(
        tools=shape.tools, image=False, schema=shape.schema is not None, options={name: options[name]}
    )
    try:
        sent = model.write_trial(request, shape.stream)
    except CallError as error:
        return Fit("refused", str(error))
    if sent is None:
        return Fit("as it is")
    canonical = next(iter({**sent.dropped, **sent.rounded}), name)
    if canonical in sent.dropped:
        return Fit("dropped", sent.dropped[canonical])
    if canonical in sent.rounded:
        return Fit("rounded", sent.rounded[canonical])
    if name in sent.values and sent.values[name] == options[name]:
        return Fit("as it is")
    vocabulary = model.vocabulary
    if vocabulary is None:
        return Fit("as it is")
    spelling = vocabulary.spellings.get(vocabulary.canonical_name(name))
    return Fit("spelled", spelling.describe().replace("`", "")) if spelling is not None else Fit("as it is")
