"""Clocks that a test sets forward."""


class SetForward:
    """Put before a clock as a base class: its time is `ahead` seconds later, as where a process stands still."""

    ahead = 0.0

    def now(self):
        return super().now() + self.ahead
