from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from gradient.errors import GradientIOError
from gradient.storage.memory import MemoryStorage
from gradient.store import leases, process_id
from gradient.store.leases import EXPIRY, Leases
from gradient.store.process_id import ProcessId


def test_a_lease_exists_from_its_first_cover_to_its_release() -> None:
    storage = MemoryStorage()
    found = Leases(storage)
    with found.acquire() as lease:
        assert found.held() == []
        lease.cover("heads/main")
        lease.cover("heads/main.run2")
        lease.cover("heads/main")
        (held,) = found.held()
        assert held.owner == process_id.current()
        assert found.refs(held) == ["heads/main", "heads/main.run2"]
        assert found.exists(held)
        assert not found.is_expired(held)
    assert found.held() == []
    assert not found.exists(held)
    assert found.refs(held) == []


def test_a_lease_that_cannot_be_read_names_every_ref() -> None:
    storage = MemoryStorage()
    found = Leases(storage)
    lease = found.acquire()
    lease.cover("heads/main")
    (held,) = found.held()
    for damage in (b"", b"{}", b'{"refs":[1]}', b"\0" * 30):
        storage.contents[f"leases/{held.name}"] = damage
        assert found.refs(held) is None
    storage.contents["leases/something"] = b""
    storage.contents[f"leases/{'0' * 16}-{'1' * 11}-0.5.{'0' * 32}"] = (
        b"a number that no process has"
    )
    assert found.held() == [held]


def test_a_lease_expires_after_an_hour_if_its_owner_may_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    found = Leases(MemoryStorage(), clock=lambda: now[0])
    found.acquire().cover("heads/main")
    (held,) = found.held()
    now[0] += 2 * EXPIRY
    assert not found.is_expired(held), "this process runs"
    monkeypatch.setattr(process_id, "_machine", lambda: "0" * 16)
    assert found.is_expired(held)
    now[0] -= EXPIRY
    assert not found.is_expired(held)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), KeyboardInterrupt()])
def test_an_unremovable_lease_is_removed_later(
    error: BaseException, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = MemoryStorage()
    found = Leases(storage)

    def refused(_: object, name: str) -> None:
        if isinstance(error, OSError):
            raise GradientIOError("remove", name, error)
        raise error

    lease = found.acquire()
    lease.cover("heads/main")
    with monkeypatch.context() as patch:
        patch.setattr(MemoryStorage, "remove", refused)
        for end in (lease.release, found.acquire)[:times]:
            with suppress(KeyboardInterrupt):
                end()
    assert len(found.held()) == 1
    found.acquire()
    assert found.held() == []


def test_a_removed_lease_is_not_removed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Leases(MemoryStorage())
    with found.acquire() as lease:
        lease.cover("heads/main")
    removed: list[str] = []
    monkeypatch.setattr(MemoryStorage, "remove", lambda _, name: removed.append(name))
    found.acquire()
    assert removed == []


def test_golden() -> None:
    assert leases.encode(["heads/main"]) == b'{"refs":["heads/main"]}'


def test_an_owner_has_one_text_form() -> None:
    me = process_id.current()
    assert ProcessId.parse(str(me)) == me
    for text in ("", "x", f"{me}-1", f"-{me}", str(me).upper() + "x"):
        assert ProcessId.parse(text) is None


def test_whether_an_owner_runs() -> None:
    me = process_id.current()
    assert me.runs() is True
    assert ProcessId("0" * 16, me.process, me.started).runs() is None
    if me.started != "0":
        assert ProcessId(me.machine, me.process, "1").runs() is False
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        facts = process_id._stat(child.pid)
        other = ProcessId(me.machine, child.pid, facts[0] if facts else "0")
        assert other.runs() is True
        os.kill(child.pid, signal.SIGSTOP)
        assert other.runs() is True, "asleep is not dead"
        os.kill(child.pid, signal.SIGCONT)
    finally:
        child.kill()
        if facts:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert other.runs() is False, "only its parent has not looked yet"
        child.communicate()
    assert other.runs() is False
