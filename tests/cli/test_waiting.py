"""What takes over a second is shown while it lasts."""

import io
import threading

from modelhub.cli.output import show_waiting


class Terminal(io.StringIO):
    """A terminal that says when something was written."""

    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def isatty(self):
        """Return True, as a terminal does."""
        return True

    def flush(self):
        """Note that a line was written: the command flushes each."""
        self.written.set()


def test_a_long_wait_is_shown_and_removed(monkeypatch):
    """The line says what is waited for, and is gone when that is over."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with show_waiting("reading usage.db", delay=0):
        assert terminal.written.wait(30)
        assert "reading usage.db ..." in terminal.getvalue()
    assert terminal.getvalue().endswith(f"\r{' ' * len('reading usage.db ...')}\r")


def test_what_is_quick_shows_nothing(monkeypatch):
    """Nor is a line written afterwards."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with show_waiting("reading usage.db", delay=100):
        pass
    assert terminal.getvalue() == ""
