"""`modelhub serve`: an OpenAI-compatible endpoint for the file's chains and models."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.options import ConfigFile, Profile, load_hub
from modelhub.cli.output import make_line, print_lines
from modelhub.cli.report import fail, fail_usage, report_errors
from modelhub.version import install_command

if TYPE_CHECKING:
    from modelhub.integrations.asgi import OpenAIApp

__all__ = ["serve"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""How clients on this machine call it."""


Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")]
WithoutKeys = Annotated[
    bool, typer.Option("--without-keys", help="Serve other machines too, although the file has no keys.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Reload the file whenever it changes (needs the extra watch).")]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    without_keys: WithoutKeys = False,
    watch: Watch = False,
    file: ConfigFile = None,
    profile: Profile = None,
) -> None:
    """Serve the chains and models as an OpenAI-compatible endpoint.

    Clients of OpenAI's API use the address that is printed as their `base_url`, and a name of the file as the model.
    Without keys (`serve: {keys: ...}` in the file) only this machine is served.

    \b
    Examples:
      modelhub serve
      modelhub serve --host 0.0.0.0 --port 4000 --file deploy/models.yaml
    """
    try:
        is_loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    with report_errors():
        from modelhub.integrations.asgi import OpenAIApp

        hub = load_hub(file, profile, watch=watch)
        app = OpenAIApp(hub)
        if app.is_open and is_loopback:
            # A page of another site, whose name its owner has pointed at this machine, could call them in a browser.
            app = OpenAIApp(hub, hosts=LOOPBACK_NAMES)
    if app.is_open and not is_loopback and not without_keys:
        message = (
            "others would call the models of this file with its keys: add `serve: {keys: ...}` to the file, or pass "
            "--without-keys if only those reach this address who may"
        )
        fail_usage(message, "--host")
    run_server(app, host, port)


def run_server(app: OpenAIApp, host: str, port: int) -> None:
    """Serve *app* until the process is told to end. Exits if uvicorn is missing or cannot listen."""
    if find_spec("uvicorn") is None:
        fail(f"uvicorn is not installed: {install_command('serve')}", Exit.NOT_CONFIGURED)
    import uvicorn

    from modelhub.hub import CLOSE_GRACE

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=int(CLOSE_GRACE))
    with _listen(host, port) as listener:
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{listener.getsockname()[1]}/v1"
        print_lines(make_line(("serving ", "dim"), ", ".join(app.models), (" at ", "dim"), (url, "bold")), err=True)
        with contextlib.suppress(KeyboardInterrupt):  # how a server that is run from a terminal ends
            uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0].lower()
        fail(f"cannot listen on {host}, port {port}: {reason}")
