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
from modelhub.core.events import ArmEjected, ArmRestored
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply, add_done_callback
from modelhub.middleware.chain.arms import Arms
from modelhub.middleware.chain.fallback import CallRun
from modelhub.middleware.chain.plan import ArmPlace, ChainPlan

__all__ = ["ArmsRun"]

_OF_THE_KEY = (BreakerOpen, LimitRejected, NotConfigured, UnknownFailure)
"""Failures that another key of the same model need not meet, though they say nothing about the model."""


class ArmsRun(CallRun):
    """Asks the arms of a place, in the order that holds when it is reached, before the next place.

    A failure that is due to the request is not repeated with another key of the same model.
    """

    def __init__(self, plan: ChainPlan, request: ChatRequest, outer_deadline: float | None) -> None:
        super().__init__(plan, request, outer_deadline)
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
        if place is not None and place.keys in self._refused_keys:
            return None
        self.context.arm = self._outer_arm if place is None else place.arm.label
        # Whether another arm of the place can be asked at once.
        has_ready_arm = self._has_outer_arm or any(after.arm.is_ready() for after in self._list_arms_after(index))
        if has_ready_arm != self.request.has_ready_arm:
            self.request = self.request.replace(has_ready_arm=has_ready_arm)
        if place is None:
            return await super()._ask(index)
        end_call = place.arm.state.begin_call()
        reply: Reply | None = None
        try:
            reply = await super()._ask(index)
        finally:
            if reply is None:
                end_call()
        if reply is not None:
            add_done_callback(reply, lambda _: end_call())
            if place.arm.state.is_ejected:
                place.arm.state.is_ejected = False
                name, context = self.models[self.index].name, self.context
                context.observe(ArmRestored(context.call_id, self.plan.name, name, place.arm.label))
        return reply

    def _order_arms(self, index: int) -> None:
        """Put the arms of the place that begins at *index* into the order for this call."""
        place = self._find_place(index)
        self._ordered = index + (1 if place is None else len(place.arms.models))
        if place is not None:
            services = self.context.services
            self.models[index : self._ordered] = place.arms.order(self.context.tags, services.random)
            for model in self.models[index : self._ordered]:
                arm_place = self.plan.find_arm(model)
                if arm_place is not None and not model.configured and not arm_place.arm.state.is_ejected:
                    problem = model.missing() or "it is not configured"
                    self._eject(arm_place, NotConfigured(problem, model=model.name))

    def _find_place(self, index: int) -> ArmPlace | None:
        return self.plan.find_arm(self.models[index])

    def _get_arm(self, index: int) -> str | None:
        place = self._find_place(index)
        return self._outer_arm if place is None else place.arm.label

    # -- who is behind -------------------------------------------------------------------------------------------------

    def _list_arms_after(self, index: int) -> list[ArmPlace]:
        """Return the arms that share the place of the model at *index* and are still to be asked."""
        place = self._find_place(index)
        if place is None:
            return []
        others = (self.plan.find_arm(model) for model in self.models[index + 1 :])
        same_place = [other for other in others if other is not None and other.arms is place.arms]
        return [other for other in same_place if other.keys not in self._refused_keys]

    def _find_next(self, index: int) -> int | None:
        return next((after for after in range(index + 1, len(self.models)) if not self._is_refused(after)), None)

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
            if not goes_on and self.plan.falls_back(error, to_other_arm=True):
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
        ignored = error.breaker_effect is BreakerEffect.IGNORES
        if place.keys is not None and ignored and not isinstance(error, _OF_THE_KEY):
            self._refused_keys.add(place.keys)
        if error.breaker_effect is BreakerEffect.OPENS:
            self._eject(place, error)

    def _eject(self, place: ArmPlace, error: CallError) -> None:
        """Report once that the arm has left."""
        state, context = place.arm.state, self.context
        if not state.is_ejected:
            state.is_ejected = True
            model = self.models[self.index].name if error.model is None else error.model
            context.observe(ArmEjected(context.call_id, self.plan.name, model, place.arm.label, error))
