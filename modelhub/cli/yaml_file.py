"""YAML files that are not the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["read_yaml"]


def read_yaml(path: Path) -> Any:
    """Return what the file has. Raises ConfigError, which shows the place and not the text: it may be a key."""
    import yaml

    from modelhub.config.including import read_text
    from modelhub.config.syntax import explain_syntax_error
    from modelhub.core.errors import ConfigError, Problem

    text = read_text(path, str(path))
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        span, message, hint = explain_syntax_error(error, text)
    except ValueError as error:  # of a date, say, that does not exist
        raise ConfigError(f"{path}: {error}") from None
    raise ConfigError([Problem(message, str(path), span.line, span.column, hint=hint)])
