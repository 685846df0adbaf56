"""No test opens a socket beyond loopback, and none sees the developer's keys."""

import ipaddress
import os
import socket

import pytest

VENDORS = ("OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "DASHSCOPE_", "OLLAMA_")
KEY_WORDS = ("API_KEY", "AUTH_TOKEN", "MODELHUB_CONFIG", *VENDORS)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    """A paid call is impossible: no key is in the environment."""
    for name in list(os.environ):
        if any(word in name for word in KEY_WORDS):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def _loopback_only():
    """Whoever tries to leave the machine hears of it."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise AssertionError(f"a test tried to connect to {address[0]}")
        return connect(self, address)

    socket.socket.connect = guarded
    yield
    socket.socket.connect = connect


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
