"""Packages of third parties, installed as pip would: modules, and a `dist-info` with entry points, on the path."""

import importlib
import sys
import textwrap

import pytest

from modelhub import registry
from modelhub.config import schema

CACHES = (
    registry.read_plugins,
    registry.load_provider_options,
    schema.load_layer_options,
    schema.make_defaults_class,
    schema.make_entry_class,
)


def forget():
    """What is installed is looked up once in a process; a test that installs something has it looked up again."""
    for cache in CACHES:
        cache.cache_clear()


class Site:
    """A folder on the path into which packages are installed."""

    def __init__(self, path):
        self.path, self.modules = path, []

    def install(self, project, providers=(), middleware=(), **modules):
        """Install the distribution *project*: its *modules*' texts by name, and its entry points."""
        for name, text in modules.items():
            (self.path / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
            self.modules.append(name)
        info = self.path / f"{project.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n", encoding="utf-8")
        (info / "RECORD").write_text("".join(f"{name}.py,,\n" for name in modules), encoding="utf-8")
        groups = {"modelhub.providers": providers, "modelhub.middleware": middleware}
        lines = [line for group, points in groups.items() for line in (f"[{group}]", *points)]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        importlib.invalidate_caches()
        forget()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder for packages, on the path while the test runs."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    found = Site(folder)
    yield found
    for name in found.modules:
        sys.modules.pop(name, None)
    monkeypatch.undo()
    forget()
