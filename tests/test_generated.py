"""What is generated is up to date."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_readmes_tables_are_what_the_code_says():
    """`make fix` would change nothing in the README."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tests" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    text = generate.README.read_text(encoding="utf-8")
    assert text == generate.generated(text), "run `make fix`"
