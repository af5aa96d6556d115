"""The command that serves the dashboard."""

from __future__ import annotations

import os
import re
import secrets
from importlib.util import find_spec
from typing import Annotated

import typer

from hpscan.cli.output import DEFAULT_STORE, EXIT_BAD_INPUT, StoreOpt, fail, opened

__all__ = ["dashboard"]

NEEDED = ("dash", "fastapi", "uvicorn", "itsdangerous", "prometheus_client")
"""What the extra `dashboard` brings."""
CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def dashboard(
    *,
    store: StoreOpt = DEFAULT_STORE,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; any but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8050,
    allow_launch: Annotated[
        bool, typer.Option("--allow-launch", help="Let viewers launch and cancel sweeps here.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="Where launches go: `auto`, HOST:PORT, ray://HOST:PORT, or a job server's http://HOST:PORT; by default this machine.",
            metavar="RAY",
        ),
    ] = None,
    allow_workload: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-workload", help="Code that launched specs may name, or a text they may read. Repeatable.",
            metavar="MODULE:FUNCTION|PATH",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", help="A further name that browsers use for this server. Repeatable.", metavar="NAME"),
    ] = None,
) -> None:  # fmt: skip
    """Serve the store as web pages and a REST API, live while sweeps run.

    HPSCAN_TOKEN is the token that opens it; HPSCAN_READ_TOKEN opens it to look and neither launch nor cancel.
    """
    if any(find_spec(name) is None for name in NEEDED):
        fail("the dashboard is not installed: pip install 'hpscan[dashboard]'", EXIT_BAD_INPUT)
    _check_options(address, allow_workload, allowed_host, allow_launch=allow_launch)
    from hpscan.dashboards.launching import Launcher
    from hpscan.dashboards.origins import Hosts, is_loopback
    from hpscan.dashboards.reading import Reader
    from hpscan.dashboards.server import ServerError, bound, make_app, serve
    from hpscan.dashboards.tokens import Tokens
    from hpscan.store import StoreError

    full, read = (os.environ.get(name, "").strip() or None for name in ("HPSCAN_TOKEN", "HPSCAN_READ_TOKEN"))
    if full and full == read:
        fail("HPSCAN_READ_TOKEN: must not be HPSCAN_TOKEN, which may launch", EXIT_BAD_INPUT)
    made = not full and (read is not None or not is_loopback(host))
    tokens = Tokens(full=secrets.token_urlsafe(32) if made else full, read=read)
    try:
        source = opened(store)
        source.sweeps()  # a store that cannot be read is told before anybody looks
        listener = bound(host, port)
    except (StoreError, ServerError) as error:
        fail(str(error), EXIT_BAD_INPUT)
    launcher = Launcher(source, allowed=allow_launch, address=address, allow=tuple(allow_workload or ()))
    app = make_app(Reader(source), launcher, tokens=tokens, hosts=Hosts.of(host, allowed_host or ()))
    named = f"[{host}]" if ":" in host else host
    print(f"hpscan dashboard of {source.files.shown()}: http://{named}:{listener.getsockname()[1]}", flush=True)
    if made:
        print(f"token, until this ends (or set HPSCAN_TOKEN): {tokens.full}", flush=True)
    serve(app, listener)


def _check_options(
    address: str | None, workloads: list[str] | None, hosts: list[str] | None, *, allow_launch: bool
) -> None:
    """End in one line where options make no sense together."""
    for option, given in (("--address", address), ("--allow-workload", workloads)):
        if given and not allow_launch:
            fail(f"{option}: is about launching, which is off; give --allow-launch, too", EXIT_BAD_INPUT)
    for workload in workloads or ():
        if not CODE.fullmatch(workload) and "/" not in workload:
            fail(f"--allow-workload {workload}: must be MODULE:FUNCTION, or the path of a text", EXIT_BAD_INPUT)
    for name in hosts or ():
        if not re.fullmatch(r"[\w.-]+|\[?[0-9A-Fa-f:]+\]?", name, re.ASCII):
            fail(f"--allowed-host {name}: must be a name alone, without http:// and port", EXIT_BAD_INPUT)
