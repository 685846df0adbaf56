"""The version of the package, and the name that it is installed by."""

__version__ = "0.2.0"

DISTRIBUTION = "modelhub-chains"
"""The name on the package index, where `modelhub` belongs to another project."""


def install_command(extra: str) -> str:
    """Return the command, for a shell, that installs the optional dependencies *extra*."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
