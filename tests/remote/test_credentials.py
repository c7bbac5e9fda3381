from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gradient.errors import AuthError, MalformedObjectError
from gradient.remote.credentials import SERVICE, Credentials
from gradient.remote.token import Token
from gradient.remote.verify import Account

CANARY = "canary-7f3a9c51e2d84b60"
URL = "https://example.org/verify"
LAB = Account("Lab", "lab", "7")


class Ring:
    """A keyring in memory."""

    def __init__(self, *, broken: bool = False) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.broken = broken

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.broken:
            raise RuntimeError(f"locked, with {password}")
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def holders(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if CANARY.encode() in path.read_bytes()]


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    kept = Credentials(str(tmp_path))
    login = kept.store(Token(CANARY), URL, LAB)
    assert login.kept_in == kept.path == str(tmp_path / ".gradient" / "credentials")
    assert mode(tmp_path / ".gradient") == 0o700
    assert mode(Path(kept.path)) == 0o600
    assert holders(tmp_path) == ["credentials"]
    again = Credentials(str(tmp_path))
    assert again.login() == login
    assert again.token() == Token(CANARY)
    assert CANARY not in f"{again!r} {login!r}"


def test_a_looser_file_is_replaced_not_written_into(tmp_path: Path) -> None:
    folder = tmp_path / ".gradient"
    folder.mkdir()
    (tmp_path / "mine").write_text("keep")
    (folder / "credentials").symlink_to(tmp_path / "mine")
    Credentials(str(tmp_path)).store(Token(CANARY), URL, LAB)
    assert (tmp_path / "mine").read_text() == "keep"
    assert mode(folder / "credentials") == 0o600


def test_a_keyring_is_preferred(tmp_path: Path) -> None:
    ring = Ring()
    kept = Credentials(str(tmp_path), keyring=ring)
    assert kept.store(Token(CANARY), URL, LAB).kept_in == "keyring"
    assert ring.kept == {(SERVICE, URL): CANARY}
    assert holders(tmp_path) == []
    assert kept.token() == Token(CANARY)
    with pytest.raises(AuthError, match="the token is gone from keyring"):
        Credentials(str(tmp_path)).token()
    assert kept.forget()
    assert ring.kept == {}


def test_a_keyring_that_refuses_gives_way_to_the_file(tmp_path: Path) -> None:
    kept = Credentials(str(tmp_path), keyring=Ring(broken=True))
    assert kept.store(Token(CANARY), URL, LAB).kept_in == kept.path


def test_moving_to_the_keyring_leaves_no_file(tmp_path: Path) -> None:
    Credentials(str(tmp_path)).store(Token(CANARY), URL, LAB)
    Credentials(str(tmp_path), keyring=Ring()).store(Token(CANARY), URL, LAB)
    assert holders(tmp_path) == []


def test_forgetting_leaves_nothing(tmp_path: Path) -> None:
    kept = Credentials(str(tmp_path))
    assert not kept.forget()
    kept.store(Token(CANARY), URL, LAB)
    assert kept.forget()
    assert list((tmp_path / ".gradient").iterdir()) == []
    with pytest.raises(AuthError, match="not logged in"):
        kept.token()


def test_damaged_facts_can_be_replaced(tmp_path: Path) -> None:
    kept = Credentials(str(tmp_path))
    kept.store(Token(CANARY), URL, LAB)
    (tmp_path / ".gradient" / "auth.json").write_text("{}")
    with pytest.raises(MalformedObjectError, match="log in again"):
        kept.login()
    kept.store(Token(CANARY), URL, LAB)
    assert kept.login() is not None
