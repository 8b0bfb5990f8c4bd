"""Serving the explorer on this machine, to this machine."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable

from ngvae_tools.errors import OptionError
from ngvae_tools.latents.tables import optional
from ngvae_tools.workflows.explore.explorer import Explorer

ADDRESS = "127.0.0.1"
"""Where the server listens: nobody else's machine can reach it."""

SECONDS_TO_END = 3
"""What an interrupt waits for answers that are being made."""


def check_installed() -> None:
    """Refuse to start where the packages of the server are missing, before anything is opened.

    Raises:
        MissingDependencyError: One is not installed.
    """
    for name in ("starlette", "uvicorn"):
        optional(name, extra="explore")


def serve(explorer: Explorer, *, port: int = 0, on_ready: Callable[[str], None]) -> None:
    """Serve until an interrupt, which is raised again as `KeyboardInterrupt`.

    Args:
        explorer: What is served.
        port: Where; 0: any that is free.
        on_ready: Called with the page's address, its token in it, as soon as the page can be opened.

    Raises:
        MissingDependencyError: starlette or uvicorn is not installed.
        OptionError: The port cannot be used.
    """
    check_installed()
    import uvicorn

    from ngvae_tools.workflows.explore.app import application
    from ngvae_tools.workflows.explore.gate import TOKEN_QUERY, Gate

    with _listening(port) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe()
        config = uvicorn.Config(
            Gate(application(explorer, token), token=token, port=port),
            # What goes wrong is said to the page; addresses, which hold the token, are written nowhere.
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
        on_ready(f"http://{ADDRESS}:{port}/?{TOKEN_QUERY}={token}")
        uvicorn.Server(config).run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    # Named as TCP, or asyncio would leave small answers waiting for 40 ms (Nagle's algorithm).
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.bind((ADDRESS, port))
        listener.listen()
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        raise OptionError(
            f"port {port} cannot be used",
            expected="a free port",
            found="one that another program uses" if taken else error.strerror or str(error),
            remedy="pass another --port, or 0 for any that is free",
        ) from None
    return listener
