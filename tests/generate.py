"""Writes the generated parts of the README again; `tests/test_generated.py` checks that they are up to date.

python tests/generate.py
"""

import re
from pathlib import Path

from modelhub.registry import LAYERS, PROVIDERS, load_provider_options
from modelhub.version import DISTRIBUTION

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def failures():
    """The failure table, as `modelhub explain --failures --markdown` prints it."""
    from modelhub.cli.model_table import format_markdown

    return format_markdown()


def layers():
    """The order of layers."""
    names = [spec.title for spec in LAYERS]
    return f"```text\n{' > '.join(['chain', *names, 'provider'])}\n```"


def providers():
    """The providers and what they need."""
    rows = []
    for kind in PROVIDERS:
        options = load_provider_options(kind)
        required = [name for name, field in options.model_fields.items() if field.is_required()]
        extra = "" if kind == "scripted" else f'`pip install "{DISTRIBUTION}[{kind}]"`'
        keys = ", ".join(f"`{name}`" for name in required if name != "provider") or "-"
        rows.append([f"`{kind}`", (options.__doc__ or "").strip().splitlines()[0], keys, extra or "-"])
    return table(["provider", "what", "required keys", "install"], rows)


def help_text():
    """The commands, from the CLI's own help."""
    import typer.main

    from modelhub.cli import app

    group = typer.main.get_command(app)
    rows = []
    for name, command in sorted(group.commands.items()):
        arguments = " ".join(
            param._usage_display_name().strip("{}") for param in command.params if param.param_type_name == "argument"
        )
        rows.append([f"`modelhub {name} {arguments}`".replace(" `", "`"), command.get_short_help_str(120)])
    return table(["command", "what"], rows)


def parameters():
    """How each vendor spells what a call may say for any model."""
    from modelhub.providers.parameters import NEUTRAL_PARAMETERS

    kinds = [kind for kind in PROVIDERS if kind != "scripted"]
    vocabularies = [load_provider_options(kind)(model_name="m").connect().vocabulary for kind in kinds]
    rows = []
    for name in NEUTRAL_PARAMETERS:
        spellings = [vocabulary.spellings.get(name) for vocabulary in vocabularies]
        rows.append([f"`{name}`", *("-" if spelling is None else spelling.describe() for spelling in spellings)])
    return table(["parameter", *kinds], rows)


PARTS = {"failures": failures, "layers": layers, "providers": providers, "help": help_text, "parameters": parameters}


def generated(text):
    """*text* with every generated part as it should be now."""
    return BLOCK.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}\n{match[3]}", text)


if __name__ == "__main__":
    README.write_text(generated(README.read_text(encoding="utf-8")), encoding="utf-8")
