"""What is generated is up to date."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_generated_parts_are_what_the_code_says():
    """`make fix` would change nothing in the README and in docs/."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tests" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for page in generate.PAGES:
        text = page.read_text(encoding="utf-8")
        assert text == generate.generated(text), f"{page.name}: run `make fix`"
