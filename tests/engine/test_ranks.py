"""Several ranks that hold the same model: the first commits, and sharded tensors are refused."""

from __future__ import annotations

import json
import logging.handlers
import os
import socket
import warnings
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import pytest
import torch

from gradient.errors import UnsupportedValueError
from gradient.repo.repository import Repository
from tests.engine.training_rig import Rig


def be_a_rank(rank: int, port: int, answers: Connection) -> None:
    """Train, commit, fork and resume as one of two ranks; then try a sharded tensor."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(5)
    rig = Rig()
    facts: dict[str, Any] = {"rank": rank}
    engine = rig.attach()
    engine.autocommit(every=1)
    rig.step()
    first = engine.maybe_commit(1, metrics={"loss": 1.0})
    torch.distributed.barrier()
    facts["first"] = [first, first.id if first is not None else None, engine.current_step]
    forked = engine.fork(from_ref="main@1", new_branch="exp", scale_lr=2)
    torch.distributed.barrier()
    facts["fork"] = [forked, bool(forked.id), engine.branch, engine.current_step]
    facts["lr"] = rig.optimizer.param_groups[0]["lr"]
    rig.step()
    engine.commit(2)
    torch.distributed.barrier()
    told = logging.handlers.BufferingHandler(9)
    logging.getLogger("gradient").addHandler(told)
    facts["resumed"] = engine.resume("latest")
    facts["told"] = [record.getMessage() for record in told.buffer]
    facts["weight"] = float(rig.model.state_dict()["0.weight"].sum())
    facts["sharded"] = attach_a_sharded_model()
    answers.send(json.dumps(facts))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def attach_a_sharded_model() -> str:
    """Return what attaching a model of sharded tensors says."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    model = torch.nn.Linear(4, 4, bias=False)
    weight = distribute_tensor(model.weight.detach(), mesh, [Shard(0)])
    model.weight = torch.nn.Parameter(weight)
    rig = Rig(model)
    try:
        rig.attach("sharded")
    except UnsupportedValueError as error:
        return str(error)
    return ""


@pytest.mark.multirank
def test_of_two_ranks_the_first_commits() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = [Pipe(duplex=False) for _ in range(2)]
    children = []
    for rank, (_, answers) in enumerate(pipes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                warnings.simplefilter("ignore")
                be_a_rank(rank, port, answers)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    facts = []
    for answer, theirs in pipes:
        theirs.close()
        facts.append(json.loads(answer.recv()) if answer.poll(120) else None)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    first, second = facts
    assert first is not None
    assert second is not None
    assert first["first"][0] == second["first"][0] == "main@1"
    assert len(first["first"][1]) == 64
    assert second["first"][1:] == ["", 1]
    assert first["fork"] == ["exp@1", True, "exp", 1]
    assert second["fork"] == ["exp@1", False, "exp", 1]
    for name in ("lr", "resumed", "weight"):
        assert first[name] == second[name], name
    assert first["lr"] == 0.02
    assert first["resumed"] == 2
    assert first["told"] == []
    assert [text[:56] for text in second["told"]] == [
        "rank 1 continues with the generators of rank 0, the only"
    ]
    assert first["sharded"] == second["sharded"]
    assert "model.weight: a DTensor" in first["sharded"]
    repo = Repository.open("work/run")
    assert [c.step for _, c in repo.line("exp")] == [2, 1, 1]
    assert repo.branches() == ["exp", "main"]
    assert repo.resolve("main@1").commit.metrics == {"loss": 1.0}
    assert not list(Path("work/run").glob("*.tmp*"))
