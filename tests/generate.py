"""Writes the generated parts of the README and of docs/ again; `tests/test_generated.py` checks that they are current.

python tests/generate.py
"""

import json
import re
from pathlib import Path

from modelhub.options import write_duration
from modelhub.registry import LAYERS, PROVIDERS, load_provider_options

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
SCHEMA = json.loads((ROOT / "schemas" / "models.schema.json").read_text(encoding="utf-8"))
PRIMITIVES = {"reference", "grouped"}  # what may stand for any value of another type, as the page says once
BLOCK = re.compile(r"(<!-- generated: (\w+)((?: [\w-]+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def failures():
    """The failure table, as `modelhub explain --failures --markdown` prints it."""
    from modelhub.cli.explain import format_failures_markdown

    return format_failures_markdown()


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
        extra = "" if kind == "scripted" else f"`{kind}`"
        keys = ", ".join(f"`{name}`" for name in required if name != "provider") or "-"
        rows.append([f"`{kind}`", (options.__doc__ or "").strip().splitlines()[0], keys, extra or "-"])
    return table(["provider", "what", "required keys", "extra"], rows)


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


def servers():
    """The servers that speak OpenAI's API and are known by their hosts."""
    from modelhub.providers.openai.servers import SERVERS

    rows = []
    for name, server in SERVERS.items():
        keys = ", ".join(f"`{variable}`" for variable in server.site.key_variables)
        hosts = ", ".join(f"`{host}`" for host in server.site.hosts)
        address = f"`{server.site.address}`" if server.site.address else "-"
        rows.append([f"`{name}`", hosts or "-", address, keys or "-"])
    return table(["`compat`", "hosts", "usual address", "key"], rows)


def parameters():
    """How each vendor spells what a call may say for any model."""
    from modelhub.providers.parameters import NEUTRAL_PARAMETERS

    apis = [(kind, {}, kind) for kind in PROVIDERS if kind not in ("scripted", "openai")]
    apis += [("openai", {"api": "chat"}, "openai, chat"), ("openai", {"api": "responses"}, "openai, responses")]
    vocabularies = [
        load_provider_options(kind)(model_name="m", **options).connect().vocabulary for kind, options, _ in apis
    ]
    rows = []
    for name in NEUTRAL_PARAMETERS:
        spellings = [vocabulary.spellings.get(name) for vocabulary in vocabularies]
        rows.append([f"`{name}`", *("-" if spelling is None else spelling.describe() for spelling in spellings)])
    return table(["parameter", *(title for *_, title in apis)], rows)


def keys(definition):
    """The keys of one part of the file, as the schema describes them; a vendor's without those of every model."""
    part = SCHEMA["$defs"].get(definition, SCHEMA)
    complete = {} if definition in SCHEMA["$defs"] else SCHEMA["else"]  # what holds for a file that includes no other
    part = {**part, "required": [*part.get("required", ()), *complete.get("required", ())]}
    models = [other["properties"] for name, other in SCHEMA["$defs"].items() if name.endswith("-model")]
    shared = set.intersection(*(set(properties) for properties in models))
    properties = models[0] if definition == "model" else part["properties"]
    rows = []
    for name, schema in properties.items():
        if name in shared if definition == "model" else name not in shared or not definition.endswith("-model"):
            if (definition, name) == ("model", "provider"):
                schema = {"description": "Which vendor's API is called; it decides which further keys there are."}
            schema = {**schema, **complete.get("properties", {}).get(name, {})}
            is_required = name in (*part.get("required", ()), "model_name" if definition == "model" else "")
            description = " ".join(schema.get("description", "").split()).replace("|", "\\|")
            rows.append([f"`{name}`", type_text(schema), default_text(schema, is_required), description])
    return table(["key", "value", "default", "what"], rows)


def type_text(schema):
    """What a key's value may be, in words."""
    choices = [choice for choice in flatten(schema) if choice.get("type") != "null"]
    refs = [choice["$ref"].rpartition("/")[2] for choice in choices if "$ref" in choice]
    choices = [choice for choice in choices if "$ref" not in choice]
    texts = []
    if any(map(is_duration, choices)):
        number = next(choice for choice in choices if choice["type"] == "number")
        choices = [choice for choice in choices if choice is not number and not is_duration(choice)]
        texts.append(f"duration, {write_duration(number['minimum'])} to {write_duration(number['maximum'])}")
    texts += [simple_text(choice) for choice in choices]
    texts += [f"[{words(ref)}](file.md#{words(ref).replace(' ', '-')})" for ref in refs if ref not in PRIMITIVES]
    return " or ".join(dict.fromkeys(texts))


def is_duration(schema):
    """Whether a schema is that of a duration with its unit."""
    return schema.get("pattern", "").endswith("(ms|s|m|h)?\\s*$")


def flatten(schema):
    """The alternatives of a schema, which may have alternatives themselves."""
    choices = schema.get("anyOf") or schema.get("oneOf")
    return [schema] if choices is None else [simple for choice in choices for simple in flatten(choice)]


def simple_text(schema):
    """What the value of a schema without choices may be, in words."""
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return " or ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in values)
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {type_text(schema['items'])}" if schema.get("items") else "list"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"mapping of names to {type_text(inner)}" if isinstance(inner, dict) else "mapping"
    text = {"string": "text", "boolean": "`true` or `false`", "integer": "whole number"}.get(kind, kind)
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{text}, {least:g} to {most:g}"
    if least is not None or "exclusiveMinimum" in schema:
        return f"{text}, {least:g} or more" if least is not None else f"{text} over {schema['exclusiveMinimum']:g}"
    return text


def default_text(schema, is_required):
    """A key's default, as it would be written in the file."""
    if is_required:
        return "required"
    default = schema.get("default")
    if default is None or default in ([], {}):
        return "-"
    if any(map(is_duration, flatten(schema))):
        return f"`{write_duration(default)}`"
    return f"`{json.dumps(default).strip(chr(34))}`"


def words(definition):
    """The name of a definition of the schema as a heading: `RetryOptions` is "retry options"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", definition.removesuffix("Options")).replace("-", " ").lower()


PARTS = {
    "failures": failures,
    "layers": layers,
    "providers": providers,
    "help": help_text,
    "parameters": parameters,
    "servers": servers,
    "keys": keys,
}


def generated(text):
    """*text* with every generated part as it should be now."""
    return BLOCK.sub(lambda match: f"{match[1]}{PARTS[match[2]](*match[3].split())}\n{match[4]}", text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(generated(page.read_text(encoding="utf-8")), encoding="utf-8")
