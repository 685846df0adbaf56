"""Check that what `shared:` needs is installed."""

from __future__ import annotations

import importlib.util

from modelhub.config.check import OptionsChecker
from modelhub.version import install_command

__all__ = ["check_shared"]


def check_shared(checker: OptionsChecker) -> None:
    """Report `shared:` if the client library of Redis and Valkey is not installed."""
    if "shared" in checker.interpolated.data and importlib.util.find_spec("redis") is None:
        message = "`shared` needs the client of Redis and Valkey, which is not installed"
        checker.problem(("shared",), message, install_command("redis"), key=True)
