"""What the project promises of Pythons is said in several files, and they agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.tables import table

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CLASSIFIERS = [line.rpartition(" ")[2] for line in PYPROJECT["project"]["classifiers"] if "Python :: 3." in line]


def test_the_oldest_supported_python_is_the_same_everywhere():
    """For installers, for readers of the classifiers, for the linter, for the type checker and for make."""
    oldest = CLASSIFIERS[0]
    assert PYPROJECT["project"]["requires-python"] == f">={oldest}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == oldest
    assert f"modelhub needs Python {oldest} or later" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_supported_pythons_have_no_gap():
    """Every version from the oldest to the newest is a classifier, and the one that runs this is among them."""
    minors = [int(version.partition(".")[2]) for version in CLASSIFIERS]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in CLASSIFIERS


@table("lock", sorted(path.name for path in ROOT.glob("requirements*.lock")))
def test_every_locked_package_has_hashes(lock):
    """What is installed is what was locked."""
    packages = re.split(r"\n(?=\S)", (ROOT / lock).read_text(encoding="utf-8").strip())
    assert len(packages) > 50
    assert [package.split(maxsplit=1)[0] for package in packages if "--hash=sha256:" not in package] == []


def test_ci_says_loudly_which_supported_pythons_it_skips(tmp_path):
    """It tests the oldest and the newest that are there, and nothing else keeps silent about a missing one."""
    for name in ("make", "pyenv"):
        (tmp_path / name).write_text('#!/bin/sh\n[ "$0" = "${0%make}" ] || echo "make $*"\n', encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    for version in CLASSIFIERS[1:]:
        (tmp_path / f"python{version}").write_text(f"#!/bin/sh\necho /opt/{version}\n", encoding="utf-8")
        (tmp_path / f"python{version}").chmod(0o755)
    (tmp_path / f"python{CLASSIFIERS[0]}").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (tmp_path / f"python{CLASSIFIERS[0]}").chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / ".ci" / "run"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert f"SKIPPED: Python {CLASSIFIERS[0]} is supported but not installed here" in done.stderr
    first, newest = CLASSIFIERS[1], CLASSIFIERS[-1]
    assert [line for line in done.stdout.splitlines() if line.startswith("make")] == [
        f"make test test-system PYTHON=/opt/{first}",
        f"make pytest test-system PYTHON=/opt/{newest} VENV=.venv-{newest}",
        f"make docs PYTHON=/opt/{newest}",
        f"make dist PYTHON=/opt/{first}",
        f"make -j2 environments PYTHON=/opt/{newest} VENV=.venv-{newest}",
        f"make test-hosts PYTHON=/opt/{newest} VENV=.venv-{newest}",
        f"make test-integrations PYTHON=/opt/{newest} VENV=.venv-{newest}",
    ]
