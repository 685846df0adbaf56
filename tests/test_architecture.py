"""The rules of the package's structure."""

import ast
import importlib.metadata
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import modelhub
from modelhub.core import errors
from modelhub.registry import LAYERS, PROVIDERS
from modelhub.version import DISTRIBUTION
from tests.tables import table

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "modelhub"
LEVELS = [
    ["_deprecated", "core"],
    ["blocks", "clock", "context", "errors", "events", "model", "response", "stream", "tools"],
    [
        "version",
        "core.agentscope",
        "core.error_report",
        "core.failure_policy",
        "core.hub_errors",
    ],
    ["core.errors", "core.record", "core.clock", "core.process", "core.threads", "core.tracebacks"],
    [
        "core.completions",
        "core.response",
        "messages",
        "messages.blocks",
        "messages.validation",
        "messages.schema_repair",
        "options",
    ],
    ["messages.media_sources", "messages.sanitize", "messages.files"],
    [
        "core.stream_timer",
        "core.events",
        "core.error_report",
        "core.active_calls",
    ],
    ["messages.gemini_parts", "messages.json_schema", "messages.responses_items"],
    ["messages.content_parts", "core.snapshot_reader"],
    ["messages.conversation"],
    ["messages.normalize", "messages.tools"],
    ["core.stream", "core.call_options"],
    ["core.context", "core.sync"],
    ["core.request", "core.row_result"],
    ["core.row_stream", "core.row_prompts"],
    ["core.row_mapping", "core.agentscope"],
    ["core.model"],
    ["providers.addresses"],
    ["providers.http.*"],
    {
        *("providers.base", "providers.response_builder"),
        *("providers.endpoint", "providers.redaction"),
        *("providers.error_mapping", "providers.error_codes", "providers.error_patterns"),
        *("providers.sdk_client", "providers.sdk_import"),
        *("providers.json_text", "providers.finish_reasons", "providers.token_counts"),
        *("providers.tool_names", "providers.tool_schema", "providers.tool_arguments"),
        *("providers.parameters", "providers.parameter_resolver"),
        *("providers.vendor_parameters", "providers.known_models"),
        "providers.structured_output",
    },
    ["providers.http_provider"],
    ["providers.sdk_writer"],
    ["middleware.time_limit", "middleware.token_estimates"],
    {
        *("middleware.*.options", "middleware.breaker.state", "middleware.retry.budget"),
        *("middleware.limit.bucket", "middleware.limit.concurrency", "middleware.limit.loop_timer"),
        *("middleware.limit.permit", "middleware.limit.pool", "middleware.limit.rate_counter"),
        *("middleware.limit.rates", "middleware.limit.remote_limits", "middleware.limit.store"),
        "middleware.limit.window",
    },
    ["middleware.build_context"],
    ["middleware"],
    ["providers.*", "middleware.*", "accounting.*", "telemetry.*", "logs"],
    ["shared.*"],
    ["registry"],
    ["config.*"],
    ["build", "config_source", "file_watcher", "retired_models", "secret_renewal"],
    ["live_config"],
    ["hub"],
    ["integrations.*"],
    ["jobs.*"],
    ["ray"],
    ["testing.*"],
    ["cli.*"],
    ["__main__", "__init__"],
]
SDKS = {"openai", "anthropic", "dashscope", "ollama", "google", "opentelemetry"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__" or len(parts) == 1), path


class Source(NamedTuple):
    """What the rules ask of a file: a whole syntax tree is a thousand times as large."""

    imported: list[str]
    """Every name that is imported at module level, but for type checking."""
    import_sources: set[str]
    """Every module from which something is imported, anywhere in the file."""
    modules: set[str]
    """Every module of the package that is imported, late and for type checking too."""
    functions: set[str]
    """The names of all functions and methods, those that a class takes over by assignment among them."""
    lengths: list[tuple[str, int, int]]
    """The name, the line and the number of lines of every function and method."""
    classes: list[str]
    """The names of the classes at module level."""


@cache
def read_source(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(walk_statements(tree.body))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return Source(
        list(imports_of(tree.body)),
        {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module},
        {name.removeprefix("modelhub.") for name in imports_of(nodes)},
        {function.name for function in functions} | set(assigned_methods(nodes)),
        [(function.name, function.lineno, function.end_lineno - function.lineno + 1) for function in functions],
        [node.name for node in tree.body if isinstance(node, ast.ClassDef)],
    )


def assigned_methods(nodes):
    """The methods that are functions of another module: `parse_event = staticmethod(read_event)`."""
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="staticmethod"))):
                yield name


def walk_statements(statements):
    """Every statement in *statements*: a tenth of what `ast.walk` visits."""
    for statement in statements:
        yield statement
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            yield from walk_statements(getattr(statement, field, ()))


def imports_of(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [module for module in modules if module.removeprefix("modelhub.") in MODULES]
            yield from known or [node.module]


@cache
def level(name):
    for number, patterns in enumerate(LEVELS):
        for pattern in patterns:
            if re.fullmatch(pattern.replace(".", r"\.").replace("*", r"[\w.]*"), name):
                return number
            if pattern == f"{name}.*":
                return number  # a package's own __init__
    raise AssertionError(f"modelhub/{name}: no level is named for it in {Path(__file__).name}")


MODULES = dict(modules())


def are_neighbours(name, other):
    """Modules of one folder may import each other, but not those directly in `core`, `messages` and `middleware`."""
    if MODULES[name].stem == "__init__" and other.startswith(f"{name}."):
        return True
    if isinstance(LEVELS[level(name)], set):
        return True
    top = name.partition(".")[0]
    if top not in ("core", "messages", "providers", "middleware"):
        return top == other.partition(".")[0]
    folder = name if MODULES[name].stem == "__init__" else name.rpartition(".")[0]
    return folder != top and f"{other}.".startswith(f"{folder}.")


def is_allowed(name, other):
    """Whether the module *name* may import *other*."""
    return level(other) < level(name) or (level(other) == level(name) and are_neighbours(name, other))


def test_a_module_imports_only_lower_levels():
    """A module imports lower levels, and its neighbours in the same folder."""
    imports = [
        (name, target.removeprefix("modelhub."))
        for name, path in MODULES.items()
        for target in read_source(path).imported
        if target.startswith("modelhub.")
    ]
    assert len(imports) > len(MODULES)
    assert [(name, other) for name, other in imports if not is_allowed(name, other)] == []


def test_no_modules_import_each_other():
    """Neither when they are loaded, nor later, nor for the sake of types: a module can be read without its users."""
    graph = {name: read_source(path).modules & set(MODULES) - {name} for name, path in MODULES.items()}
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    assert graph == {}, "these are in circles, or import modules that are"


def test_no_file_is_long():
    """A module is read in one go."""
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_function_is_long():
    """A function is read at one glance: 40 lines at most, its head and its docstring included."""
    lengths = {
        f"{name}.{function}:{line}": length
        for name, path in MODULES.items()
        for function, line, length in read_source(path).lengths
    }
    assert len(lengths) > 5 * len(MODULES)
    assert {name: length for name, length in lengths.items() if length > 40} == {}


def test_no_sdk_is_imported_with_a_module():
    """SDKs are imported where they are used: a file that names one vendor does not load the others."""
    imports = [(name, target) for name, path in MODULES.items() for target in read_source(path).imported]
    assert [(name, target) for name, target in imports if target.partition(".")[0] in SDKS] == []
    assert len(imports) > len(MODULES)


def test_every_public_name_can_be_had():
    """What `__all__` promises, the lazy package gives; `errors` leaves nothing out."""
    for name in modelhub.__all__:
        assert getattr(modelhub, name) is not None
    plain = {"Problem", "FailurePolicy", "RetryRule", "BreakerEffect", "Chargeable", "failure_classes"}
    assert set(errors.__all__) - plain <= set(modelhub.__all__)


def test_the_tree_in_the_docstring_is_the_tree():
    """The drawing at the top of `errors` shows every class below its base."""
    drawn, path = {}, []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^((?:[│ ]   )*)(?:[├└]── )?(\w+)(?: \((\w+)\))?", line)
        if not match or not hasattr(errors, match[2]):
            continue
        depth = len(match[1]) // 4 + ("── " in line)
        path[depth:] = [match[2]]
        drawn[match[2]] = path[depth - 1] if depth else None
    for name, base in drawn.items():
        cls = getattr(errors, name)
        assert base is None or getattr(errors, base) in cls.__bases__, name
    assert set(drawn) == {"ModelHubError", "ConfigError", "UnknownModel", "HubClosed", "CallError"} | {
        cls.__name__ for cls in errors.failure_classes()
    }


def test_the_order_of_layers_is_pinned():
    """Outermost first: no permit is held while waiting to retry, and an open breaker is not retried."""
    assert [spec.key for spec in LAYERS] == [
        *("pricing", "deadline", "retry", "breaker", "limit", "timeout", "prompt_cache")
    ]


def test_every_provider_has_its_extra():
    """Whoever names a provider in a file can install its SDK by that name."""
    extras = set(importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ())
    assert set(PROVIDERS) - {"scripted"} <= extras


def test_no_text_tells_to_install_another_project():
    """What people are told to install is this distribution, whose name is not the package's."""
    texts = [path for folder in ("modelhub", "examples") for path in (ROOT / folder).rglob("*.py")]
    for path in [ROOT / "README.md", ROOT / "pyproject.toml", *texts]:
        assert not re.search(r"""(pip install|add)\s+["']?modelhub\b(?!-)""", path.read_text(encoding="utf-8")), path
        assert not re.search(r"(?<![./\w])modelhub\[[a-z,-]+\]", path.read_text(encoding="utf-8")), path


@cache
def read_test(path):
    """The tests of a file, each with its docstring, and the private names of others that the file uses."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [
        node for node in walk_statements(tree.body) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    tests = [(path.name, node.name, ast.get_docstring(node)) for node in functions if node.name.startswith("test_")]
    return tests, find_private(tree)


def test_every_test_says_what_it_tests():
    """A test states one behaviour in one sentence."""
    tests = [test for path in (ROOT / "tests").rglob("test_*.py") for test in read_test(path)[0]]
    assert len(tests) > 1000
    assert [(file, name) for file, name, docstring in tests if not docstring] == []


VENDORS = ("openai", "anthropic", "dashscope", "gemini", "ollama")
VENDOR_FILES = {
    "options": {"connect"},
    "endpoint": {"find_endpoint"},
    "provider": {
        *("build_request", "make_writer", "write_request"),
        *("parse_response", "parse_event", "error_from_response", "structured_method"),
    },
    "request": {"encode_request"},
    "response": {"read_body", "read_event"},
    "errors": {"error_from_response"},
    "parameters": set(),
    "schema": set(),
}
"""The files of a vendor's folder, and the functions and methods that are in each."""


@table("vendor", VENDORS)
@table("file", VENDOR_FILES)
def test_the_vendors_folders_are_alike(vendor, file):
    """The same thing is in the same file and under the same name for every vendor."""
    source = read_source(PACKAGE / "providers" / vendor / f"{file}.py")
    optional = {"structured_method"} if vendor == "ollama" else set()
    assert VENDOR_FILES[file] - optional <= source.functions


def test_nothing_else_imports_a_vendors_folder():
    """What others need of a vendor is a fact of its class; only the registry knows where it is."""
    inside = re.compile(rf"modelhub\.providers\.({'|'.join(VENDORS)})\.")  # the class itself is public
    imports = {
        (name, module)
        for name, path in MODULES.items()
        for module in read_source(path).import_sources
        if inside.match(module)
    }
    assert imports
    assert {(name, module) for name, module in imports if module.split(".")[2] not in name.split(".")} == set()


REPEATED_CLASSES = {"ToolCall"}
"""Names that several classes have; this set may only shrink."""


def test_a_class_name_stands_once():
    """A name in a traceback, a log or a search means one class."""
    counts = Counter(name for path in MODULES.values() for name in read_source(path).classes)
    assert {name for name, count in counts.items() if count > 1} == REPEATED_CLASSES


FOREIGN_NAMES = {
    *("_exit", "_replace", "_asdict"),  # public, of os and of named tuples
    *("_get_command", "_usage_display_name"),  # of typer
    *("_log_destroy_pending", "_scheduled"),  # of asyncio
}


def test_no_test_reaches_into_a_private_name():
    """Tests use what others may use; private names of the package may change with no test to be changed."""
    private_names = {str(path): read_test(path)[1] for path in (ROOT / "tests").rglob("*.py")}
    assert len(private_names) > 100
    assert {file: names for file, names in private_names.items() if names} == {}


def find_private(tree):
    """The private names that a test uses and does not define itself."""
    own, used = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            used.add(node.attr)
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                own.add(node.attr)
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                own.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            used.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Call):
            used.update(patched_names(node))
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    return private - own - FOREIGN_NAMES


def patched_names(call):
    """What is replaced by `monkeypatch.setattr(object, "name", ...)` or `setattr("modelhub.module.name", ...)`."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "setattr":
        texts = [argument.value for argument in call.args[:2] if isinstance(argument, ast.Constant)]
        yield from (part for text in texts if isinstance(text, str) for part in text.split("."))
