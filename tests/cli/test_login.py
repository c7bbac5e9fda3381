from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gradient.cli.main import cli
from tests.cli.command import call, finish, spawn
from tests.remote.test_verify import CANARY, Server, server

__all__ = ["server"]


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A writable home folder."""
    home = tmp_path / "person"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setitem(sys.modules, "keyring", None)
    return home


def log_in(*arguments: str, given: str = "", code: int = 0, **environment: str) -> Result:
    result = CliRunner().invoke(cli, ["login", *arguments], input=given, env=environment)
    assert result.exit_code == code, result.output
    assert CANARY not in result.output
    return result


def test_login_whoami_logout(server: Server, account: Path) -> None:
    done = log_in("--token", CANARY, "--verify-url", server.url)
    assert "logged in to Lab (lab, 7)" in done.output
    assert ".gradient/credentials (mode 0600)" in done.output
    shown = json.loads(call("whoami", "--json").stdout)
    assert shown["workspace"] == {"name": "Lab", "slug": "lab", "id": "7"}
    assert shown["verify_url"] == server.url
    assert "Lab" in call("whoami").output
    assert "logged out" in call("logout").output
    assert "not logged in" in call("logout").output
    assert "not logged in" in call("whoami", code=1).output


def test_a_piped_token_and_the_last_url(server: Server, account: Path) -> None:
    log_in("--verify-url", server.url, given=f"{CANARY}\nrest\n")
    log_in(given=CANARY)
    log_in(given=CANARY, GRADIENT_AUTH_VERIFY_URL=f"http://localhost:{server.port}/v")
    bearers = [headers["Authorization"] for _, _, headers, _ in server.asked]
    assert bearers == [f"Bearer {CANARY}"] * 3
    assert [path for _, path, _, _ in server.asked] == ["/verify", "/verify", "/v"]


def test_no_url_is_a_usage_error_with_the_remedy(account: Path) -> None:
    assert "--verify-url URL" in log_in("--token", CANARY, code=2).output


def test_a_refused_token_is_not_kept(server: Server, account: Path) -> None:
    server.status, server.body = 403, CANARY.encode()
    assert (
        "refuses the access token"
        in log_in("--token", CANARY, "--verify-url", server.url, code=1).output
    )
    assert not (account / ".gradient").exists()


def test_plain_http_elsewhere_is_refused(account: Path) -> None:
    url = "http://example.org/verify"
    assert "plain http" in log_in("--token", CANARY, "--verify-url", url, code=2).output


def test_the_token_is_not_stored_in_a_url(server: Server, account: Path) -> None:
    log_in("--token", CANARY, "--verify-url", f"{server.url}?t={CANARY}", code=2)
    assert server.asked == []


def test_an_empty_pipe_is_an_error(server: Server, account: Path) -> None:
    assert "the access token is empty" in log_in("--verify-url", server.url, code=1).output


def test_the_canary_stays_in_its_cage(server: Server, account: Path) -> None:
    """In a real process: neither its output nor any file but one contains the token."""
    for status in (500, 200):
        server.status = status
        process = spawn("login", "--token", CANARY, "--verify-url", server.url, env={**os.environ})
        out, err = finish(process, code=0 if status == 200 else 1)
        assert CANARY not in out + err
    files = [path for root in (account, Path.cwd()) for path in root.rglob("*") if path.is_file()]
    assert [p.name for p in files if CANARY.encode() in p.read_bytes()] == ["credentials"]
