"""Where a hub's configuration comes from, so that it can be read again: by a reload, and by another process."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelhub.config.secrets import find_literal_secrets
from modelhub.core.errors import ConfigError

if TYPE_CHECKING:
    from modelhub.config.load import Loaded

__all__ = ["CONFIG_VARIABLE", "ConfigSource", "find_config_file", "make_pickling_error", "reopen"]

CONFIG_VARIABLE = "MODELHUB_CONFIG"
"""The environment variable that names the file."""


def find_config_file(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """Return *path*, or $MODELHUB_CONFIG, or ./models.yaml. Raises ConfigError if it is not a file."""
    environ = os.environ if environ is None else environ
    variable = environ.get(CONFIG_VARIABLE)
    file = Path(path or variable or "models.yaml")
    if file.is_file():
        return file
    if path is None and variable is None:
        raise ConfigError(
            f"there is no {file} in {Path.cwd()}: create it, pass the path of another file "
            f"(`--file` on the command line), or set ${CONFIG_VARIABLE}"
        )
    origin = "" if path is not None else f" (from ${CONFIG_VARIABLE})"
    raise ConfigError(f"{file}{origin} is not a file")


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A file's absolute path, or a dict with the structure of a file; *method* is the one of `Hub` that takes it.

    *name* is what messages call the file. *environ* replaces the process's environment, unless it is None. *profile* is
    the profile that applies, None for the one that the environment names.
    """

    method: Literal["from_yaml", "from_dict"]
    config: Any = field(repr=False)
    name: str = ""
    environ: Mapping[str, str] | None = field(default=None, repr=False)
    profile: str | None = None
    files: set[Path] = field(default_factory=set, repr=False, compare=False)
    """The files that were read, or looked for, when the configuration was last loaded."""

    @classmethod
    def from_file(cls, file: Path, environ: Mapping[str, str] | None, profile: str | None) -> ConfigSource:
        """Return the source of the configuration in *file*, wherever the process goes; links in its path stay."""
        return cls("from_yaml", os.path.abspath(file), str(file), environ, profile)  # noqa: PTH100 - links stay

    @classmethod
    def from_dict(
        cls, config: Mapping[str, Any], environ: Mapping[str, str] | None, profile: str | None
    ) -> ConfigSource:
        """Return the source of the configuration in *config*, of which it keeps a copy."""
        from modelhub.config.load import copy_plain

        return cls("from_dict", copy_plain(config), environ=environ, profile=profile)

    def with_config(self, config: Mapping[str, Any]) -> ConfigSource:
        """Return the same source with another dict. Raises ConfigError if it is a file."""
        if self.method != "from_dict":
            raise ConfigError(f"this hub was made from the file {self.config}: change that, and reload without a dict")
        from modelhub.config.load import copy_plain

        return replace(self, config=copy_plain(config), files=set())

    def load(self) -> Loaded:
        """Read the configuration as it is now. Raises ConfigError with every problem."""
        from modelhub.config.load import load_dict, load_file  # what checks a file is made when there is one

        files: set[Path] = set()
        try:
            if self.method == "from_dict":
                return load_dict(self.config, environ=self.environ, profile=self.profile, files=files)
            return load_file(self.config, environ=self.environ, profile=self.profile, name=self.name, files=files)
        finally:
            self.files.clear()
            self.files.update(files)

    def check_portable(self) -> None:
        """Raise PicklingError if a copy in another process would lack something, or carry a secret there."""
        if self.environ is not None:
            raise make_pickling_error("it was made with `environ`, which may hold secrets; make it where it is used")
        places = find_literal_secrets(self.config) if self.method == "from_dict" else iter(())
        if (place := next(places, None)) is not None:
            raise make_pickling_error(
                f"its dict holds a literal secret, at `{place}`: write a reference, such as ${{VAR}}"
            )


def make_pickling_error(reason: str) -> pickle.PicklingError:
    """Return the error that says why a hub cannot be pickled."""
    return pickle.PicklingError(f"this hub cannot be pickled: {reason}")


def reopen(cls: Any, method: str, config: Any, profile: str | None = None) -> Any:
    """Recreate a pickled hub, an instance of *cls*, by the *method* that it was made with."""
    return getattr(cls, method)(config, profile=profile)
