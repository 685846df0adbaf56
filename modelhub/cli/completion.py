"""What a shell completes: the names of the file's models and chains."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["complete_names"]


def complete_names(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the names that begin with *incomplete*, each with what it is; none without a file that can be read."""
    import yaml

    from modelhub.core.errors import ConfigError
    from modelhub.hub import find_config_file

    file = ctx.params.get("file")
    try:
        config = yaml.safe_load(find_config_file(file and Path(file)).read_text(encoding="utf-8"))
        names = [(str(name), section[:-1]) for section in ("chains", "models") for name in config.get(section) or {}]
    except (ConfigError, OSError, ValueError, yaml.YAMLError, AttributeError, TypeError):
        return []  # a command line is being typed: this is not the place for errors
    return [(name, kind) for name, kind in names if name.startswith(incomplete)]
