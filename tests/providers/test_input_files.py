"""Local files in messages: what is read, and what a message from anybody cannot have read."""

import base64
import json
import os

import pytest

from modelhub import Hub
from modelhub.core.errors import ConfigError, InvalidRequest
from tests.tables import table

ANSWER = {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]}
SECRET = b"\x89PNG the launch code"


@pytest.fixture
def folder(tmp_path):
    """A folder with an uploaded picture, a secret beside it, and ways that lead out of the folder."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    for path in (uploads / "cat.png", tmp_path / "secret.png"):
        path.write_bytes(SECRET)
    (uploads / "empty.png").touch()
    (uploads / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(uploads / "pipe.png")
    return tmp_path


async def ask(loopback, folder, part, files=None):
    """What a call with *part* sends; the configuration stands in *folder*."""
    loopback.answers(ANSWER)
    model = {"provider": "openai", "model_name": "m", "api_key": "k", "base_url": f"{loopback.url}/v1"}
    config = {"version": 1, "models": {"m": model}, **({} if files is None else {"files": files})}
    (folder / "models.yaml").write_text(json.dumps(config))
    async with Hub.from_yaml(folder / "models.yaml") as hub:
        await hub.get("m")([{"role": "user", "content": [part]}])
    return loopback.asked.pop().body.decode()


def by_address(path):
    """The forms in which an address that is a path can stand in a message."""
    return [
        {"type": "image_url", "image_url": {"url": str(path)}},
        {"type": "image_url", "image_url": f"file://{path}"},
        {"type": "image", "source": {"type": "url", "url": f"FILE:{path}"}},
        {"type": "input_image", "image_url": str(path)},
        {"type": "document", "source": {"type": "url", "url": str(path), "media_type": "text/plain"}},
        {"type": "input_audio", "input_audio": {"data": f"file://{path}", "format": "wav"}},
        {"type": "input_file", "file_url": f"file://{path}"},
        {"image": f"file://{path}"},
        {"file_data": {"file_uri": f"file://{path}", "mime_type": "image/png"}},
        {"type": "tool_result", "content": [{"type": "image_url", "image_url": str(path)}]},
    ]


@table("number", range(9))
async def test_an_address_that_is_a_path_is_not_read(loopback, folder, number):
    """Nothing is sent, and the error says how to allow it."""
    part = by_address(folder / "uploads" / "cat.png")[number]
    with pytest.raises(InvalidRequest, match=r"messages\[0\].*files: \{allow: \[folder\]\}") as caught:
        await ask(loopback, folder, part)
    assert loopback.asked == []
    assert "cat.png" not in str(caught.value)


async def test_the_app_names_files_by_itself(loopback, folder):
    """With a `pathlib.Path`, in any place of an address, or with a source of the type `path`."""
    path = folder / "uploads" / "cat.png"
    parts = [
        {"type": "image", "source": {"type": "path", "path": str(path)}},
        {"type": "image", "source": {"type": "path", "path": path}},
        {"type": "image", "source": path},
        {"type": "image_url", "image_url": {"url": path}},
    ]
    for part in parts:
        assert base64.b64encode(SECRET).decode() in await ask(loopback, folder, part)


async def test_allowed_folders_are_read_and_nothing_else(loopback, folder):
    """By address and in `path` blocks, relative to the configuration; links and `..` do not lead out of them."""
    allowed = {"allow": ["uploads"]}
    uploads = folder / "uploads"
    for part in by_address(uploads / "cat.png")[:4]:
        assert base64.b64encode(SECRET).decode() in await ask(loopback, folder, part, allowed)
    for path in (folder / "secret.png", uploads / "link.png", uploads / ".." / "secret.png"):
        for source in ({"type": "url", "url": str(path)}, {"type": "path", "path": str(path)}):
            with pytest.raises(InvalidRequest, match=r"^messages\[0\].*no file below a folder"):
                await ask(loopback, folder, {"type": "image", "source": source}, allowed)
    part = {"type": "image", "source": {"type": "path", "path": str(uploads / "cat.png")}}
    with pytest.raises(InvalidRequest, match="no file below a folder"):
        await ask(loopback, folder, part, {"allow": []})
    assert loopback.asked == []


@table(
    ("path", "words"),
    [
        ("uploads/pipe.png", "is no regular file"),
        ("uploads", "is no regular file|cannot be read"),
        ("uploads/empty.png", "is empty"),
        ("uploads/none.png", "none.png cannot be read"),
        ("/dev/zero", "is no regular file"),
        ("/proc/self/environ", "is no regular file"),
        ("a\0b.png", "is no path"),
    ],
)
async def test_what_is_no_regular_file_is_never_read(loopback, folder, path, words):
    """No device, no pipe that nobody writes to, nothing of the kernel's: not even for the app."""
    source = {"type": "path", "path": str(folder / path) if "\0" not in path else path, "media_type": "image/png"}
    with pytest.raises(InvalidRequest, match=words):
        await ask(loopback, folder, {"type": "image", "source": source})
    assert loopback.asked == []


def test_the_list_of_folders_is_checked_with_the_file():
    """A misspelt key and a folder without a name are problems of the configuration."""
    models = {"m": {"provider": "scripted"}}
    for files, words in (({"alow": ["x"]}, "did you mean `allow`"), ({"allow": [""]}, "path of a folder")):
        with pytest.raises(ConfigError, match=words):
            Hub.from_dict({"version": 1, "models": models, "files": files})
