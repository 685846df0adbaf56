"""Build the distribution and try the wheel: what it holds, and that it runs as it is installed.

python tests/check_wheel.py [FOLDER]    leaves the distribution in FOLDER (default: dist)
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from modelhub.version import DISTRIBUTION, __version__  # noqa: E402 - the source's own words, not an installed copy's


def build(folder: Path) -> Path:
    """Build the source distribution and the wheel into *folder*, and return the wheel."""
    for old in folder.glob(f"{DISTRIBUTION.replace('-', '_')}-*"):
        old.unlink()
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_content(wheel: Path) -> None:
    """Check that every file of the package is in *wheel*, and nothing else, under the right name and version."""
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "modelhub").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        head = Parser().parsestr(archive.read(metadata).decode())
    if names != package:
        sys.exit(f"{wheel.name} differs from the package: {sorted(names ^ package)}")
    if (head["Name"], head["Version"]) != (DISTRIBUTION, __version__):
        sys.exit(f"{wheel.name} calls itself {head['Name']} {head['Version']}, not {DISTRIBUTION} {__version__}")


def check_command(wheel: Path) -> None:
    """Check that the package runs from where *wheel* is installed."""
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "--target", folder, str(wheel)], check=True)
        environ = {**os.environ, "PYTHONPATH": folder, "PYTHONSAFEPATH": "1"}
        run = [sys.executable, "-m", "modelhub"]
        where = [sys.executable, "-c", "import modelhub; print(modelhub.__file__)"]
        origin = subprocess.run(where, check=True, cwd=folder, env=environ, capture_output=True, text=True).stdout
        if not origin.startswith(folder):
            sys.exit(f"the installed copy was not the one that ran: {origin}")
        for arguments in (["--version"], ["check", "--file", str(ROOT / "models.yaml")]):
            subprocess.run([*run, *arguments], check=True, cwd=folder, env=environ, stdout=subprocess.DEVNULL)


def main() -> None:
    """Build and check."""
    wheel = build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve())
    check_content(wheel)
    check_command(wheel)
    print(f"{wheel.name} is complete and runs")


if __name__ == "__main__":
    main()
