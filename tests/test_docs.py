"""The documentation does what it says: its files load, its snippets run, its commands print what is shown.

On each page
- a YAML block titled `models.yaml` is the file of what follows, and that of the first page the one of pages without;
  one without a title is a file, or a part, that loads;
- a Python block runs on its own, in a folder with that file; one whose title is a file's name is written there, too,
  and one with any other title is another library's, or part of something;
- the output under a line that ends in "it prints:" is what the block above it prints;
- `$ modelhub ...` in a console block runs; if output is shown, it is what is printed, but for numbers.
"""

import ast
import logging
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from modelhub import Hub
from modelhub.cli.application import app
from modelhub.core.errors import failure_classes
from tests.tables import table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")?[^\n]*\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)
INDEX = (DOCS / "index.md").read_text(encoding="utf-8")
DEFAULT_FILE = next(match[4] for match in FENCE.finditer(INDEX) if match[3] == "models.yaml")
"""The file of the first page: of every page that shows none."""
PLACEHOLDERS = yaml.safe_load(DEFAULT_FILE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    title: str | None
    code: str
    files: tuple[tuple[str, str], ...]
    """The files, by name and text, that the page has shown before this block."""
    printed: str | None
    """What the page says that the block prints."""

    def __str__(self):
        return f"{self.page}:{self.line}"

    @property
    def is_file(self):
        """Whether the title is the name of a file."""
        return self.title is not None and " " not in self.title


def blocks_of(path):
    text = path.read_text(encoding="utf-8")
    files = {"models.yaml": DEFAULT_FILE}
    for match in FENCE.finditer(text):
        indent, language, title, code = match.groups()
        code = "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))
        shown = re.match(r"\n\n[^\n]*[Ii]t prints:\n\n```text\n(.*?)```", text[match.end() :], re.DOTALL)
        line = text[: match.start()].count("\n") + 1
        if title and " " not in title:
            files[Path(title).name] = code
        yield Block(path.name, line, language, title, code, tuple(files.items()), shown and shown[1])


BLOCKS = [block for path in sorted(DOCS.rglob("*.md")) for block in blocks_of(path)]


FRAMEWORKS_WARN = (
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
)


def of(language):
    blocks = [block for block in BLOCKS if block.language == language]
    params = [pytest.param(block, marks=FRAMEWORKS_WARN if block.page.startswith("with-") else ()) for block in blocks]
    return pytest.mark.parametrize("block", params, ids=[str(block) for block in blocks])


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch, tmp_path):
    """No key is set, so that no snippet can ask a vendor."""
    for name in os.environ:
        if name.endswith(("_API_KEY", "_API_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _logging_as_before():
    """A snippet that sets logging up does so for itself alone."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def write_files(block, folder):
    for name, text in block.files:
        (folder / name).write_text(text, encoding="utf-8")


OUR_FILES = [block for block in BLOCKS if block.language == "yaml" and block.title in {None, "models.yaml"}]


@table("block", OUR_FILES, ids=map(str, OUR_FILES))
def test_every_file_loads(block, tmp_path, monkeypatch):
    """A YAML block that is not titled as somebody else's file is a file, or a part of one, that loads."""
    monkeypatch.chdir(tmp_path)
    write_files(block, tmp_path)  # it may include one
    shown = yaml.safe_load(block.code)
    if "version" not in shown:
        shown = PLACEHOLDERS | shown | {key: PLACEHOLDERS[key] | shown.get(key, {}) for key in ("models", "chains")}
    Hub.from_dict(shown, environ={})


@of("python")
def test_every_snippet_runs_and_prints_what_is_shown(block, tmp_path, capsys, monkeypatch):
    """A Python block runs as it stands, and its output is what the page shows."""
    if block.title and not block.is_file:
        compile(block.code, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return
    write_files(block, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        exec(compile(block.code, str(block), "exec"), {"__name__": "__main__"})
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"modelhub", Path(block.title or "").stem}:
            raise
        pytest.skip(f"{block} needs {error.name}, which is not installed here")
    if block.printed is not None:
        assert capsys.readouterr().out == block.printed


@of("console")
def test_every_command_runs_and_prints_what_is_shown(block, tmp_path):
    """The commands of modelhub in a console block run, and print what is shown but for numbers."""
    write_files(block, tmp_path)
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        if not command.startswith("modelhub "):
            continue
        result = CliRunner().invoke(app, shlex.split(command, comments=True)[1:])
        assert result.exit_code in {0, 1}, f"{command}: {result.output}"
        if shown.strip():
            assert normalize(shown) in normalize(result.output), result.output


def normalize(text):
    """*text* without what differs from run to run: numbers, and space at the end of lines."""
    return re.sub(r"[ \t]+", " ", re.sub(r"\d+(\.\d+)?", "0", text)).strip()


WITHOUT_EXAMPLE = {"api.md", "why.md", "performance.md"} | {path.name for path in DOCS.glob("with-*.md")}


def test_every_page_names_an_example():
    """A page names a file of `examples/` that is there; a framework's page has a whole file in it."""
    for path in DOCS.rglob("*.md"):
        names = re.findall(r"\bexamples/[\w./-]+\w", path.read_text(encoding="utf-8"))
        assert all((ROOT / name).exists() for name in names), path.name
        assert names or path.name in WITHOUT_EXAMPLE, path.name


def test_every_page_is_in_the_navigation():
    """No page is written that a reader cannot find."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    missing = [path.name for path in DOCS.rglob("*.md") if path.relative_to(DOCS).as_posix() not in navigation]
    assert not missing


def test_every_key_of_the_file_is_in_an_example():
    """Beside each generated table of keys stands an example that uses all of them."""
    for path in DOCS.rglob("*.md"):
        for section in re.split(r"^#+ ", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            names = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) if "<!-- generated: keys" in section else []
            example = "".join(match[4] for match in FENCE.finditer(section) if match[2] == "yaml")
            missing = [name for name in names if not re.search(rf"\b{name}:", example)]
            assert not missing, f"{path.name}, {section.splitlines()[0]}: no example of {missing}"


def test_every_link_to_a_part_of_the_file_leads_there():
    """The generated tables link to sections of the page that has every key."""
    headings = re.findall(r"^#+ (.+)$", (DOCS / "file.md").read_text(encoding="utf-8"), re.MULTILINE)
    parts = {heading.lower().replace(" ", "-") for heading in headings}
    for path in DOCS.rglob("*.md"):
        missing = set(re.findall(r"\(file\.md#([\w-]+)\)", path.read_text(encoding="utf-8"))) - parts
        assert not missing, f"{path.name}: docs/file.md has no section for {missing}"


def test_every_error_says_what_to_do():
    """Each class of the failure table has a section of its own."""
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    assert [error.__name__ for error in failure_classes() if f"### {error.__name__}\n" not in text] == []
