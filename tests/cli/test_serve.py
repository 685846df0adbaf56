"""`modelhub serve`: where it listens, whom it refuses, and how it ends."""

import signal
import socket
import urllib.request

from modelhub.cli.exit import Exit

KEYS = "serve: {keys: {alice: {key: sk-alice}}}\n"


def test_a_hub_is_served_until_ctrl_c(spawn):
    """The address is printed, and the endpoint answers there; Ctrl-C is how a server ends."""
    process = spawn("serve", "--port", "0")
    try:
        line = process.stderr.readline().decode()
        url = line.split()[-1]
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/models") as reply:
            assert b'"primary"' in reply.read()
    finally:
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (Exit.OK, b"", b"")
    assert line.startswith("serving primary, failing, nested, restart, offline, ")


def test_other_machines_are_not_served_without_keys(run, config, monkeypatch):
    """A public address needs keys in the file, or to be told that none are needed."""
    served = []
    monkeypatch.setattr("modelhub.cli.serve.run_server", lambda app, host, port: served.append((app, host, port)))
    for host in ("0.0.0.0", "192.168.1.5", "models.example"):
        result = run("serve", "--host", host)
        assert (result.exit_code, served) == (Exit.USAGE, [])
        assert "--without-keys" in result.stderr
    assert run("serve", "--host", "0.0.0.0", "--without-keys").exit_code == Exit.OK
    config.write_text(config.read_text() + KEYS)
    assert run("serve", "--host", "0.0.0.0").exit_code == Exit.OK
    assert run("serve", "--port", "1").exit_code == Exit.OK
    assert [(app.is_open, host, port) for app, host, port in served] == [
        (True, "0.0.0.0", 8000),
        (False, "0.0.0.0", 8000),
        (False, "127.0.0.1", 1),
    ]


def test_a_missing_server_is_named_with_what_to_install(run, monkeypatch):
    """Without uvicorn, the message says how to get it."""
    monkeypatch.setattr("modelhub.cli.serve.find_spec", lambda _: None)
    result = run("serve")
    assert (result.exit_code, result.stdout) == (Exit.NOT_CONFIGURED, "")
    assert "pip install 'modelhub-chains[serve]'" in result.stderr


def test_a_port_in_use_is_an_error_of_one_line(run):
    """The message says which address could not be had."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.exit_code == Exit.FAILED
    assert result.stderr == f"Error: cannot listen on 127.0.0.1, port {port}: address already in use\n"


def test_a_wrong_file_is_reported_before_anything_is_served(run, config):
    """With its problems, as by every command."""
    config.write_text("version: 1\nmodels: {}\n")
    assert run("serve").exit_code == Exit.CONFIG
