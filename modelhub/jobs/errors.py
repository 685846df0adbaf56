"""Why a job cannot begin or go on: its files, not its rows."""

from __future__ import annotations

from modelhub.core.errors import ModelHubError

__all__ = ["JobError"]


class JobError(ModelHubError):
    """A job cannot begin or go on, because of its files, its journal or its budget. A failed row is no such error."""
