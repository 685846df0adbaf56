"""Check with mypy and pyright what users write: snippets of the README and docs/, the examples, and `tests/typing`."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def write_snippets(folder: Path) -> list[Path]:
    """Write each untitled Python snippet of the README and of docs/ to a file in *folder*; return the files."""
    paths = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        snippets = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for number, snippet in enumerate(snippets, 1):
            paths.append(folder / f"{page.stem.lower().replace('-', '_')}_{number}.py")
            paths[-1].write_text(snippet, encoding="utf-8")
    return paths


def run(*command: str) -> bool:
    """Run a checker, show what it says if it fails, and return whether it passed."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
    return done.returncode == 0


def main() -> int:
    """Return 0 if both checkers pass."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        examples = sorted((ROOT / "examples").glob("*.py"))
        files = [*write_snippets(folder), *examples, ROOT / "tests" / "typing" / "calls.py"]
        config = folder / "pyrightconfig.json"
        settings = {"include": [str(path) for path in files], "typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
        config.write_text(json.dumps(settings | {"pythonVersion": "3.11"}), encoding="utf-8")
        mypy = run("mypy", "--config-file", "", "--check-untyped-defs", *(str(path) for path in files))
        pyright = run("basedpyright", "--project", str(config), "--pythonpath", sys.executable)
    return 0 if mypy and pyright else 1


if __name__ == "__main__":
    sys.exit(main())
