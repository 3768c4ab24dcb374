"""The explorer's door, before an application that answers everything."""

from __future__ import annotations

import socket

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from slf_store.errors import ConfigError
from slf_store.explorer.guard import HEADERS, Guard
from slf_store.explorer.serve import listen

TOKEN = "open-sesame"


def client(**options: object) -> TestClient:
    return TestClient(Guard(PlainTextResponse("inside"), **options), base_url="http://127.0.0.1")  # type: ignore[arg-type]


def test_every_answer_forbids_scripts_frames_and_caches() -> None:
    for answer in (client().get("/"), client().post("/")):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "script-src" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_only_reads(method: str) -> None:
    answer = client().request(method, "/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8050", 200),
        ("LOCALHOST", 200),
        ("[::1]:8050", 200),
        ("evil.example:8050", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("10.0.0.1", 421),
        ("", 421),
    ],
)
def test_a_foreign_name_that_leads_here_is_refused(host: str, status: int) -> None:
    assert client().get("/", headers={"host": host}).status_code == status


def test_on_all_addresses_any_address_is_a_name() -> None:
    everywhere = client(any_address=True)
    assert everywhere.get("/", headers={"host": "10.0.0.1:8050"}).status_code == 200
    assert everywhere.get("/", headers={"host": "evil.example"}).status_code == 421


def test_other_pages_embed_nothing() -> None:
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client().get("/clips/1/face.png", headers=foreign).status_code == 403
    assert client().get("/", headers={**foreign, "sec-fetch-mode": "navigate"}).status_code == 200


def test_the_token_opens_once_then_the_cookie_does() -> None:
    browser = client(token=TOKEN, cookie="slf-explore-8050")
    for wrong in ("/", "/?token=", "/?token=open", "/?token=%C3%A9", f"/?key={TOKEN}"):
        assert browser.get(wrong).status_code == 401
    opened = browser.get(f"/clips?token={TOKEN}")
    assert "inside" not in opened.text
    assert 'url=/clips"' in opened.text
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.get("/clips").text == "inside"
    browser.cookies.set("slf-explore-8050", "x")
    other = client(token=TOKEN)
    assert other.get("/", headers={"cookie": "slf-explore=é".encode()}).status_code == 401


def test_the_page_that_goes_on_leads_nowhere_else() -> None:
    browser = client(token=TOKEN)
    for path in ("//evil.example/", "/\\evil.example", '/"><script>'):
        text = browser.get(path, params={"token": TOKEN}).text
        assert "url=/" in text
        assert "url=//" not in text
        assert "<script>" not in text


def test_a_token_is_asked_for_where_others_can_come() -> None:
    with listen("127.0.0.1", 0).socket as bound:
        port = bound.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}.*in use"):
            listen("127.0.0.1", port)
    for host, options, asked in (
        ("localhost", {}, False),
        ("127.0.0.1", {"with_token": True}, True),
        ("127.0.0.1", {"allowed": ["lab.example"]}, True),
        ("0.0.0.0", {}, True),
    ):
        place = listen(host, 0, **options)  # type: ignore[arg-type]
        place.socket.close()
        assert (place.token is not None) is asked
        assert ("?token=" in place.url) is asked
    assert place.hosts >= {socket.gethostname().lower(), "localhost"}
    assert place.token != listen("0.0.0.0", 0).token
    with pytest.raises(ConfigError, match="cannot listen on no"):
        listen("no.such.host.invalid", 0)
