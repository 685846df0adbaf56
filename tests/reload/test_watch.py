"""A hub that watches its file follows it, however the file is written, and stops when it is closed."""

import asyncio
import gc
import json
import os
import queue
import signal
import sys
import threading
import traceback
from types import SimpleNamespace

import pytest

from modelhub import ConfigError, Hub, HubClosed, file_watcher
from modelhub.core.context import Services
from modelhub.core.events import Reloaded, ReloadFailed

watchfiles = pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")
TEXT = "version: 1\nmodels:\n  a: {{provider: scripted, reply: {}}}\n"
PATIENCE = 20.0  # seconds, for a machine that is busy with others


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Who writes here has finished at once; and what is not reported is looked for soon."""
    monkeypatch.setattr(file_watcher, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(file_watcher, "EMPTY_SECONDS", 0.4)


class Watched:
    """A hub that watches a file, and what became of its reloads."""

    def __init__(self, path, **options):
        self.outcomes = queue.Queue()
        self.hub = Hub.from_yaml(path, watch=True, services=Services(observers=(self._observe,)), **options)
        self.model = self.hub.get("a")

    def _observe(self, event):
        if isinstance(event, Reloaded | ReloadFailed):
            self.outcomes.put(event)

    def next(self):
        """The outcome of the next reload, and the model's answer after it."""
        return type(self.outcomes.get(timeout=PATIENCE)), self.model.sync("hi").text


def watching_threads():
    """The threads that watch a hub's file."""
    return {thread for thread in threading.enumerate() if thread.name == "modelhub-watch"}


@pytest.fixture(name="path")
def _path(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text(TEXT.format("old"))
    return path


@pytest.fixture(name="watched")
def _watched(path):
    watched = Watched(path)
    yield watched
    watched.hub.close()


def replace(path, text):
    """As most editors save: another file takes its place."""
    other = path.with_suffix(".new")
    other.write_text(text)
    other.rename(path)


def move_away(path, text):
    """As some editors save: the old one becomes a backup, and for a moment there is none."""
    path.rename(path.with_suffix(".yaml~"))
    path.write_text(text)


def write_in_pieces(path, text):
    """As a shell writes: the file is empty first, and grows."""
    with path.open("w") as file:
        for piece in (text[:20], text[20:]):
            file.write(piece)
            file.flush()


@pytest.mark.parametrize("write", [replace, move_away, write_in_pieces])
def test_a_file_that_is_written_is_used_once_it_is_complete(watched, path, write):
    """Whatever way it is written; nothing in between is taken for a broken file."""
    write(path, TEXT.format("new"))
    assert watched.next() == (Reloaded, "new")
    write(path, TEXT.format("newer"))
    assert watched.next() == (Reloaded, "newer")
    assert watched.outcomes.empty()


def test_a_file_that_is_empty_for_a_while_is_waited_for(watched, path, monkeypatch):
    """Whoever empties it first writes into it later: that is no broken file."""

    def write_meanwhile(stop, seconds):
        if not path.read_text():
            path.write_text(TEXT.format("new"))

    monkeypatch.setattr(file_watcher, "sleep_until_stopped", write_meanwhile)
    path.write_text("")
    assert watched.next() == (Reloaded, "new")
    assert watched.outcomes.empty()


def test_a_broken_file_is_reported_once_and_the_hub_goes_on(watched, path):
    """Until the file is whole again."""
    path.write_text(TEXT.format("[1, 2]"))
    assert watched.next() == (ReloadFailed, "old")
    path.write_text(TEXT.format("new"))
    assert watched.next() == (Reloaded, "new")
    path.unlink()
    assert watched.next() == (ReloadFailed, "new")
    assert watched.outcomes.empty()


def test_a_folder_behind_a_link_is_followed(tmp_path):
    """Kubernetes mounts a ConfigMap so: the file is a link through `..data`, a link that is replaced."""
    for number in ("1", "2"):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "models.yaml").write_text(TEXT.format(f"number {number}"))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "models.yaml").symlink_to("..data/models.yaml")
    watched = Watched(tmp_path / "models.yaml")
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    (tmp_path / "..1" / "models.yaml").unlink()
    (tmp_path / "..1").rmdir()
    assert watched.next() == (Reloaded, "number 2")
    watched.hub.close()


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path, monkeypatch):
    """Somebody deploys so: the file is a link into a folder that is a link itself, to the version in use."""
    watched_folders = queue.Queue()

    def watch(*folders, **options):
        watched_folders.put({folder.resolve() for folder in folders})
        yield from watchfiles.watch(*folders, **options)

    monkeypatch.setattr(file_watcher, "require_watchfiles", lambda: SimpleNamespace(watch=watch))
    for version in ("v1", "v2"):
        (tmp_path / "releases" / version).mkdir(parents=True)
        (tmp_path / "releases" / version / "models.yaml").write_text(TEXT.format(version))
    (tmp_path / "releases" / "current").symlink_to("v1")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "models.yaml").symlink_to("../releases/current/models.yaml")
    watched = Watched(tmp_path / "app" / "models.yaml")
    folders = {tmp_path / "app", tmp_path / "releases", tmp_path / "releases" / "v1"}
    assert watched_folders.get(timeout=PATIENCE) == {folder.resolve() for folder in folders}
    (tmp_path / "releases" / "next").symlink_to("v2")
    (tmp_path / "releases" / "next").rename(tmp_path / "releases" / "current")
    assert watched.next() == (Reloaded, "v2")
    watched.hub.close()


def test_a_file_that_a_reference_names_is_watched_too(path, tmp_path):
    """Also one that is not there at first, and in another folder."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    path.write_text(TEXT.format("'${file:secrets/reply}'"))
    watched = Watched(path)
    (folder / "reply").write_text("from a file\n")
    assert watched.next() == (Reloaded, "from a file")
    replace(folder / "reply", "renewed")
    assert watched.next() == (Reloaded, "renewed")
    watched.hub.close()


def test_what_is_reported_by_nobody_is_found_by_looking(path, monkeypatch):
    """Where the system has no watches left, and on file systems that report nothing."""
    monkeypatch.setattr(file_watcher, "POLL_SECONDS", 0.05)

    def fail(*folders, **options):
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", fail)
    watched = Watched(path)
    path.write_text(TEXT.format("new"))
    assert watched.next() == (Reloaded, "new")
    watched.hub.close()


def test_a_model_is_enough_to_follow_the_file(path):
    """The hub need not be held; when nobody holds the model any more, nothing is watched."""
    text = TEXT + "telemetry: {{enabled: false}}\n"
    path.write_text(text.format("old"))
    before = watching_threads()
    watched = Watched(path)
    (thread,) = watching_threads() - before
    del watched.hub
    gc.collect()
    path.write_text(text.format("new"))
    assert watched.next() == (Reloaded, "new")
    del watched
    gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()


async def test_an_event_loop_goes_on_meanwhile(path):
    """Calls of a running loop follow too."""
    watched = Watched(path)
    path.write_text(TEXT.format("new"))
    outcome = await asyncio.to_thread(watched.outcomes.get, timeout=PATIENCE)
    assert (type(outcome), (await watched.model("hi")).text) == (Reloaded, "new")
    await watched.hub.aclose()


def test_closing_ends_the_thread(path):
    """And a closed hub does not watch again; nor does watching twice start a second one."""
    before = watching_threads()
    watched = Watched(path)
    (thread,) = watching_threads() - before
    watched.hub.watch()
    assert watching_threads() - before == {thread}
    watched.hub.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    with pytest.raises(HubClosed):
        watched.hub.watch()


def test_without_watchfiles_it_says_what_to_install(path, monkeypatch):
    """At once, not when the file changes."""
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigError, match=r"pip install 'modelhub-chains\[watch\]'"):
        Hub.from_yaml(path, watch=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_watches_for_itself(watched, path):
    """From its first call on; what the parent's thread does is no concern of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            threads = [threading.active_count()]
            answers = [watched.model.sync("hi").text]
            threads.append(len(watching_threads()))
            path.write_text(TEXT.format("new"))
            answers.append(watched.next()[1])
            watched.hub.close()
            os.write(writer, json.dumps([threads, answers]).encode())
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    assert json.loads(result) == [[1, 1], ["old", "new"]]
    assert watched.next() == (Reloaded, "new")
