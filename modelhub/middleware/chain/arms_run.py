"""One call's way through a chain whose places have several arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelhub.core.errors import (
    BreakerEffect,
    BreakerOpen,
    CallError,
    LimitRejected,
    NotConfigured,
    UnknownFailure,
)
from modelhub.core.events import ArmEjected, ArmRestored, FellBack
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply, add_done_callback
from modelhub.middleware.chain.arms import Arms
from modelhub.middleware.chain.fallback import CalledChain, CallRun
from modelhub.middleware.chain.places import ArmPlace

__all__ = ["ArmsRun"]


class ArmsRun(CallRun):
    """Asks the arms of a place, in the order that holds when it is reached, before the next place.

    A failure that is due to the request is not repeated with another key of the same model.
    """

    def __init__(self, chain: CalledChain, request: ChatRequest, given: ChatRequest) -> None:
        super().__init__(chain, request, given)
        self._outer_arm = self.context.arm  # this chain may be an arm itself
        self._has_outer_arm = request.has_ready_arm  # and another one beside it
        self._ordered = 0 if request.fallback else len(self.models)  # the arms before this index are in their order
        self._refused_keys: set[Arms] = set()  # models that refused the request itself, whatever the key
        self._final: CallError | None = None  # what keeps the call from the next place, though not from another arm

    async def first(self, start: int = 0) -> Reply:
        """The first reply that commits, from the model at *start* on."""
        try:
            return await super().first(start)
        finally:
            self.context.arm = self._outer_arm

    async def _ask(self, index: int) -> Reply | None:
        if index >= self._ordered:
            self._order_arms(index)
        place = self._find_place(index)
        if place is None:
            self.context.arm = self._outer_arm
            self._update_has_ready_arm(index)
            return await super()._ask(index)
        if place.keys in self._refused_keys:
            return None
        self.context.arm = place.arm.label
        self._update_has_ready_arm(index)
        end_call = place.arm.state.begin_call()
        reply: Reply | None = None
        try:
            reply = await super()._ask(index)
        finally:
            if reply is None:
                end_call()
        if reply is not None:
            add_done_callback(reply, lambda _: end_call())
            self._restore(place)
        return reply

    def _order_arms(self, index: int) -> None:
        """Put the arms of the place that begins at *index* into the order for this call."""
        place = self._find_place(index)
        self._ordered = index + (1 if place is None else len(place.arms))
        if place is not None:
            services = self.context.services
            self.models[index : self._ordered] = place.arms.order(self.context.tags, services.random)
            for unconfigured in range(index, self._ordered):
                self._report_unconfigured(unconfigured)

    def _find_place(self, index: int) -> ArmPlace | None:
        return self.chain.places.find_arm(self.models[index])

    def _get_arm(self, index: int) -> str | None:
        place = self._find_place(index)
        return self._outer_arm if place is None else place.arm.label

    # -- who is behind -------------------------------------------------------------------------------------------------

    def _update_has_ready_arm(self, index: int) -> None:
        """Have the request for the model at *index* say whether another arm of its place can be asked at once."""
        has_ready_arm = self._has_outer_arm or any(place.arm.is_ready() for place in self._list_arms_after(index))
        if has_ready_arm != self.request.has_ready_arm:
            self.request = self.request.replace(has_ready_arm=has_ready_arm)

    def _list_arms_after(self, index: int) -> list[ArmPlace]:
        """Return the arms that share the place of the model at *index* and are still to be asked."""
        place = self._find_place(index)
        if place is None:
            return []
        others = (self._find_place(after) for after in range(index + 1, len(self.models)))
        return [
            other
            for other in others
            if other is not None and other.arms is place.arms and other.keys not in self._refused_keys
        ]

    def _record_fallback(self, index: int, error: CallError) -> None:
        context, after = self.context, self._find_next(index)
        to, to_arm = (None, None) if after is None else (self.models[after].name, self._get_arm(after))
        name = self.models[index].name
        context.observe(FellBack(context.call_id, self.chain.name, name, to, error, context.arm, to_arm))

    def _find_next(self, index: int) -> int | None:
        """Return the index of the model that is asked after the one at *index*, if any."""
        for after in range(index + 1, len(self.models)):
            if not self._is_refused(after):
                return after
        return None

    async def _wait_for_cooldown(self, refused: Mapping[int, CallError]) -> Iterable[int]:
        # A key is not waited for if the model has refused the request since, with another key.
        waiting = {index: error for index, error in refused.items() if not self._is_refused(index)}
        return await super()._wait_for_cooldown(waiting)

    def _is_refused(self, index: int) -> bool:
        place = self._find_place(index)
        return place is not None and place.keys in self._refused_keys

    # -- what a failure means ------------------------------------------------------------------------------------------

    def _goes_on(self, index: int, error: CallError) -> bool:
        goes_on = super()._goes_on(index, error)
        if self._list_arms_after(index):
            if not goes_on and self.chain.goes_on(error):
                self._final = error
                return True
            return goes_on
        if self._final is not None and self._find_place(index) is not None:
            raise self._final
        return goes_on

    def _record_error(self, error: CallError) -> None:
        super()._record_error(error)
        place = self._find_place(self.index)
        if place is None:
            return
        error.arm = place.arm.label
        if place.keys is not None and _is_due_to_request(error):
            self._refused_keys.add(place.keys)
        if error.breaker_effect is BreakerEffect.OPENS:
            self._eject(place, error)

    def _eject(self, place: ArmPlace, error: CallError) -> None:
        """Report once that the arm has left."""
        state, context = place.arm.state, self.context
        if not state.is_ejected:
            state.is_ejected = True
            model = self.models[self.index].name if error.model is None else error.model
            context.observe(ArmEjected(context.call_id, self.chain.name, model, place.arm.label, error))

    def _report_unconfigured(self, index: int) -> None:
        model, place = self.models[index], self._find_place(index)
        if place is not None and not model.configured and not place.arm.state.is_ejected:
            problem = model.missing() or "it is not configured"
            self._eject(place, NotConfigured(problem, model=model.name))

    def _restore(self, place: ArmPlace) -> None:
        state, context = place.arm.state, self.context
        if state.is_ejected:
            state.is_ejected = False
            name = self.models[self.index].name
            context.observe(ArmRestored(context.call_id, self.chain.name, name, place.arm.label))

    def _final_error(self) -> CallError:
        failed = self._failed()
        return failed.dominant if self.chain.places.is_single_model else failed


def _is_due_to_request(error: CallError) -> bool:
    """Whether another key of the same model would fail in the same way."""
    of_the_key = (BreakerOpen, LimitRejected, NotConfigured, UnknownFailure)
    return error.breaker_effect is BreakerEffect.IGNORES and not isinstance(error, of_the_key)
