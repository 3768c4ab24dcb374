"""Who is let in: to read only, by names the page is known under, and by token where it leaves this machine."""

from __future__ import annotations

import html
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    # No script, no frame, nothing from elsewhere; what an erasure removes stays in no cache.
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Guard:
    """ASGI application that lets through what may pass, and gives every answer the headers above.

    A page on loopback is open to whoever is on this machine; that no foreign web page gets at it is what the check of
    the Host header (DNS rebinding) and of `Sec-Fetch-Site` (pictures and frames of other pages) are for.

    Attributes:
        app: what is guarded.
        hosts: names it may be called by.
        any_address: IP addresses are names too: it listens on all of this machine's.
        token: what opens it, once as `?token=…`, then by cookie; None: no token is asked for.
        cookie: its name; cookies do not tell ports apart, so the port is in it.
    """

    app: ASGIApp
    hosts: frozenset[str] = LOOPBACK
    any_address: bool = False
    token: str | None = None
    cookie: str = "slf-explore"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [(name, value) for name, value in message.get("headers", ()) if name != b"cache-control"]
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": given + own}
            await send(message)

        answer = self._refuse(scope)
        await (answer or self.app)(scope, receive, with_headers)

    def _refuse(self, scope: Scope) -> Response | None:
        """What to answer instead of the page; None lets through."""
        connection = HTTPConnection(scope)
        if scope["method"] not in ("GET", "HEAD"):
            return _say(405, "The explorer only reads: GET and HEAD.", {"Allow": "GET, HEAD"})
        hosts = connection.headers.getlist("host")
        if len(hosts) != 1 or not self._knows(hosts[0]):
            return _say(421, "This page is not known by that host name; see --allow-host.")
        headers = connection.headers
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return _say(403, "Other web pages may not use this one.")
        if self.token is None:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if given and _same(given, self.token):
            return self._open(scope["path"])
        if _same(connection.cookies.get(self.cookie, ""), self.token):
            return None
        return _say(401, "Open the address with the token that `slf explore` printed.")

    def _knows(self, host: str) -> bool:
        name = host_name(host)
        return name in self.hosts or (self.any_address and _is_address(name))

    def _open(self, path: str) -> Response:
        """Hand out the cookie. A page that goes on by itself, no redirect: of a link in another page a redirect would
        still count as cross-site, and a SameSite=Strict cookie would not be sent along."""
        to = html.escape(quote("/" + path.lstrip("/\\")))
        page = f'<!doctype html><title>slf explore</title><meta http-equiv="refresh" content="0; url={to}">'
        answer = HTMLResponse(f'{page}<p><a href="{to}">Go on</a>')
        assert self.token is not None
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return answer


def host_name(host: str) -> str:
    """The name in a Host header, without its port.

    >>> host_name("LOCALHOST:8050"), host_name("[::1]:8050"), host_name("10.0.0.1")
    ('localhost', '::1', '10.0.0.1')
    """
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


def _say(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(sentence + "\n", status, headers)
