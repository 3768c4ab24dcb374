"""Serving the explorer: where it listens, under which names, and whether a token is asked for."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp

from slf_store.errors import ConfigError
from slf_store.explorer.guard import LOOPBACK, Guard

WILDCARDS = ("0.0.0.0", "::")
TOKEN_BYTES = 32


@dataclass(frozen=True)
class Place:
    """A socket that listens, and how its page is called.

    Attributes:
        socket: bound and listening.
        url: to open in a browser, with the token if there is one.
        hosts, any_address, token, cookie: see :class:`slf_store.explorer.guard.Guard`.
    """

    socket: socket.socket
    url: str
    hosts: frozenset[str]
    any_address: bool
    token: str | None
    cookie: str

    def guard(self, app: ASGIApp) -> Guard:
        """The application as it may be reached here."""
        return Guard(app, self.hosts, self.any_address, self.token, self.cookie)


def listen(host: str, port: int, *, allowed: Sequence[str] = (), with_token: bool = False) -> Place:
    """Listen, and decide about the token: asked for as soon as the page can be reached by another name than loopback.

    Args:
        host: address or name to listen on.
        port: 0 = any free one.
        allowed: further names in the Host header, e.g. of a proxy.
        with_token: ask for one on loopback too.

    Raises:
        ConfigError: there is no such address, or the port is taken.
    """
    name = host.strip("[]").lower()
    try:
        family, _, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot listen on {host} port {port}: {said}", hint="end what uses it, or choose another with --port"
        ) from None
    bound, port = listening.getsockname()[:2]
    alone = ipaddress.ip_address(bound).is_loopback and not allowed
    own = {socket.gethostname().lower(), socket.getfqdn().lower()} if name in WILDCARDS else set()
    token = None if alone and not with_token else secrets.token_urlsafe(TOKEN_BYTES)
    shown = socket.gethostname() if name in WILDCARDS else f"[{name}]" if ":" in name else name
    return Place(
        listening,
        f"http://{shown}:{port}/" + (f"?token={token}" if token else ""),
        LOOPBACK | {name, bound} | own | {other.lower() for other in allowed},
        name in WILDCARDS,
        token,
        f"slf-explore-{port}",
    )


def serve(app: ASGIApp, place: Place) -> None:
    """Serve until Ctrl-C or SIGTERM. Requests are not logged: the first one holds the token."""
    import uvicorn

    config = uvicorn.Config(
        place.guard(app), log_level="warning", access_log=False, server_header=False, ws="none", lifespan="off",
        proxy_headers=False, timeout_graceful_shutdown=3,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[place.socket])
    except KeyboardInterrupt:  # uvicorn has ended in good order, then passes the signal on
        return
