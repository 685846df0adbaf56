"""No test opens a socket beyond loopback, and none sees the developer's keys.

MODELHUB_LONG=1 runs the long versions: more calls, more random examples, every recording in single bytes.
"""

import gc
import ipaddress
import os
import socket
import sys
from pathlib import Path

import certifi
import pytest
from hypothesis import HealthCheck, settings

from modelhub.testing.pytest_plugin import fault_server, hub_faults

__all__ = ["fault_server", "hub_faults"]

# Two workers and a few hundred child processes would each compile the package and the tests again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Whoever says nothing else tries 25 examples, the same in every run: only the long version looks for new failures.
# The profile must stand before the tests are imported. How long an example takes says how busy the machine is.
settings.register_profile(
    "short", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default" if os.environ.get("MODELHUB_LONG") else "short")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep what stays for the whole run, modules and thousands of tests, out of every garbage collection.

    What a test leaves behind is collected with its module; what it makes meanwhile is looked at less often than usual.
    """
    gc.disable()
    result = yield
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    gc.enable()
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One worker more than there are cores, since some tests wait for a process or a socket."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.fixture(autouse=True, scope="module")
def _collect_garbage():
    """What a module leaves behind costs the modules after it no time: it is collected, or never looked at again."""
    yield
    gc.collect()
    gc.freeze()


VENDORS = ("OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "DASHSCOPE_", "OLLAMA_")
KEY_WORDS = ("API_KEY", "AUTH_TOKEN", "MODELHUB_CONFIG", *VENDORS)


@pytest.fixture(autouse=True, scope="session")
def _no_keys():
    """A paid call is impossible: no key is in the environment."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in list(os.environ):
            if any(word in name for word in KEY_WORDS):
                monkeypatch.delenv(name)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_certificate_authority(tmp_path_factory):
    """No certificate of the internet is met here, and reading all its authorities takes 50 ms a client."""
    bundle, end = Path(certifi.where()).read_text(encoding="ascii"), "-----END CERTIFICATE-----\n"
    file = tmp_path_factory.mktemp("authority") / "one.pem"
    file.write_text(bundle.partition(end)[0] + end, encoding="ascii")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        yield


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
