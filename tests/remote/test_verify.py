"""Against a real server on this machine."""

from __future__ import annotations

import json
import logging
import pickle
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gradient.errors import AuthError, ConfigError
from gradient.remote.address import Address
from gradient.remote.token import Token
from gradient.remote.verify import MAX_BYTES, Account, verify

CANARY = "canary-7f3a9c51e2d84b60"
YES = {"workspace": {"name": "Lab", "slug": "lab", "id": 7}}


@dataclass
class Server:
    """What it is to answer, and what it was asked."""

    port: int = 0
    status: int = 200
    body: bytes = json.dumps(YES).encode()
    location: str | None = None
    stall: Callable[[], object] | None = None
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/verify"


@contextmanager
def serving() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told.asked.append((self.command, self.path, dict(self.headers), body))
            if told.stall is not None:
                told.stall()
            redirects = told.location is not None and self.path == "/verify"
            self.send_response(307 if redirects else told.status)
            if redirects:
                self.send_header("Location", str(told.location))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as told:
        yield told


def ask(server: Server, **options: Any) -> Account:
    return verify(Token(CANARY), Address.parse(server.url), **options)


def test_a_valid_token_names_its_workspace(server: Server) -> None:
    assert ask(server) == Account("Lab", "lab", "7")
    ((method, path, headers, body),) = server.asked
    assert (method, path, body) == ("POST", "/verify", b"{}")
    assert headers["Authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize(
    ("told", "account"),
    [
        ({}, Account()),
        ({"name": "n", "slug": "s", "id": "i"}, Account("n", "s", "i")),
        ({"workspace": "n", "workspace_slug": "s"}, Account("n", "s")),
        ({"workspace": {"name": "a\x1b[31m\nb", "id": [1]}}, Account("a [31m b")),
        ({"workspace": {"name": f"x{CANARY}"}}, Account("x…")),
    ],
)
def test_the_workspace_is_found_and_made_harmless(
    server: Server, told: dict[str, Any], account: Account
) -> None:
    server.body = json.dumps(told).encode()
    assert ask(server) == account


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_said_to_be(server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(AuthError, match="refuses the access token") as caught:
        ask(server)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"[]"), (200, b"hello"), (200, b"\xff"), (500, b"{}"), (204, b""), (404, b"no\x1b[2J")],
)
def test_any_other_answer_is_told(server: Server, status: int, body: bytes) -> None:
    server.status, server.body = status, body
    with pytest.raises(AuthError, match=f"says neither yes nor no: status {status}") as caught:
        ask(server)
    assert "\x1b" not in str(caught.value)


def test_an_endless_answer_is_not_read(server: Server) -> None:
    server.body = b"x" * (MAX_BYTES + 1)
    with pytest.raises(AuthError, match="answers with more than"):
        ask(server)


def test_a_silent_server_is_given_up(server: Server) -> None:
    done = threading.Event()
    server.stall = done.wait
    try:
        with pytest.raises(AuthError, match="did not answer in time"):
            ask(server, seconds=0.1)
    finally:
        done.set()


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(AuthError, match="cannot reach"):
        verify(Token(CANARY), Address.parse(f"http://127.0.0.1:{port}/v"))


def test_a_redirect_is_followed_within_the_server(server: Server) -> None:
    server.location = "/elsewhere?a=1"
    assert ask(server).slug == "lab"
    method, path, headers, _ = server.asked[1]
    assert (method, path) == ("POST", "/elsewhere?a=1")
    assert headers["Authorization"] == f"Bearer {CANARY}"


def test_redirects_that_do_not_end_are_an_error(server: Server) -> None:
    server.location = "/verify"
    with pytest.raises(AuthError, match="redirects without end"):
        ask(server)


def test_a_redirect_elsewhere_is_not_followed(server: Server) -> None:
    with serving() as other:
        for target in (
            other.url,
            f"http://localhost:{server.port}/",
            "https://127.0.0.1/",
            "//[",
            "",
        ):
            server.location = target
            with pytest.raises(AuthError, match="redirects"):
                ask(server)
        assert other.asked == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.org/v", "plain http"),
        ("http://127.0.0.1.example.org/v", "plain http"),
        ("ftp://example.org", "malformed"),
        ("example.org", "malformed"),
        ("https://", "malformed"),
        ("https://h:99999/", "malformed"),
        ("https://h/a b", "malformed"),
        ("https://me:secret@h/", "names a user"),
    ],
)
def test_unsafe_urls_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        Address.parse(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8/", "http://[::1]/", "http://127.0.0.9/x", "https://example.org/v?q=1"],
)
def test_loopback_may_be_plain(url: str) -> None:
    assert Address.parse(url).scheme in url


def test_insecure_is_asked_for_by_name() -> None:
    assert Address.parse("http://example.org/v", insecure=True).origin == "http://example.org"


@pytest.mark.parametrize("secret", ["", " \n", "a b", "a\r\nX: y", "ü", "x" * 9000])
def test_what_can_be_no_token_is_refused_unseen(secret: str) -> None:
    with pytest.raises(AuthError) as caught:
        Token(secret)
    assert len(str(caught.value)) < 200
    assert not secret.strip() or secret not in str(caught.value)


def test_a_token_does_not_show_itself() -> None:
    token = Token(f" {CANARY}\n")
    assert token.reveal() == CANARY
    assert token == Token(CANARY)
    assert CANARY not in f"{token} {token!r} {[token]}"
    with pytest.raises(TypeError):
        pickle.dumps(token)


def test_no_error_and_no_log_has_the_token(
    server: Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server.body = f"you sent Bearer {CANARY}".encode()
    with caplog.at_level(logging.DEBUG):
        for status in (200, 401, 500):
            server.status = status
            with pytest.raises(AuthError) as caught:
                ask(server)
            assert caught.value.__context__ is None
            shown = "".join(traceback.format_exception(caught.value))
            assert CANARY not in f"{shown} {caught.value!r}"
    assert CANARY not in caplog.text + "".join(capfd.readouterr())


def test_connection_errors_have_no_context_that_holds_the_header(server: Server) -> None:
    server.port, port = 1, server.port
    with pytest.raises(AuthError) as caught:
        ask(server)
    assert caught.value.__context__ is None
    server.port = port
