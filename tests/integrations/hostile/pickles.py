"""Pickles that ask for what no state needs, written by hand."""

from __future__ import annotations

import argparse
import pickle
import struct
from pathlib import Path

import numpy as np
import torch

from tests.integrations.hostile.making import Run, archive, saved, with_pickle
from tests.integrations.hostile.tensors import rebuilt


def byte_bomb(path: Path) -> None:
    with_pickle(path, b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x7f\x85R.")


def byte_bomb_by_memo(path: Path) -> None:
    with_pickle(path, b"\x80\x02J\x00\x00\x00\x7fq\x000c__builtin__\nbytearray\nh\x00\x85R.")


def memo_bomb(path: Path) -> None:
    with_pickle(path, b"\x80\x02}r\xff\xff\xff\x7f.")


def array_bomb(path: Path) -> None:
    with_pickle(
        path,
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"J\x00\x00\x00\x7f\x85U\x01b\x87R.",
    )


def slow_codec(path: Path) -> None:
    with_pickle(
        path, pickle.dumps(Run(__import__("_codecs").encode, "a" * 100_000, "idna"), protocol=2)
    )


def extension(path: Path) -> None:
    with_pickle(path, b"\x80\x02\x82\x01.")


def by_stack(path: Path) -> None:
    with_pickle(path, b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0btouch pwned\x85R.")


def by_inst(path: Path) -> None:
    with_pickle(path, b"(S'touch pwned'\nios\nsystem\n.")


def by_obj(path: Path) -> None:
    with_pickle(path, b"(cos\nsystem\nS'touch pwned'\no.")


def by_new(path: Path) -> None:
    with_pickle(path, b"\x80\x02csubprocess\nPopen\n(X\x05\x00\x00\x00touchtR)\x81.")


def evaluated(path: Path) -> None:
    with_pickle(path, b"\x80\x02cbuiltins\neval\nX\x0f\x00\x00\x00open('pwned',1)\x85R.")


def got_by_name(path: Path) -> None:
    with_pickle(
        path, b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\nX\x01\x00\x00\x00a\x86R."
    )


def from_the_hub(path: Path) -> None:
    torch.save({"w": Run(torch.hub.load, "owner/name", "model")}, path)


def through_a_rebuild(path: Path) -> None:
    import os

    rebuild = torch._tensor._rebuild_from_type_v2
    torch.save({"w": Run(rebuild, os.system, torch.Tensor, ("touch pwned",), {})}, path)


def set_on_a_tensor(path: Path) -> None:
    """Use a tensor as if it were a mapping, which once wrote beside it."""
    raw = rebuilt(0, (4,), (1,))
    with_pickle(path, raw[:-1] + b"J\x00\x00\x00\x7fK\x01s.")


def endless_bytes(path: Path) -> None:
    with_pickle(path, b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.")


def endless_number(path: Path) -> None:
    with_pickle(path, b"\x80\x02\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"\x01.")


def endless_frame(path: Path) -> None:
    with_pickle(path, b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.")


def long_decimal(path: Path) -> None:
    with_pickle(path, b"I" + b"9" * 100_000 + b"\n.")


def deep_by_hand(path: Path) -> None:
    with_pickle(path, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")


def no_stop(path: Path) -> None:
    with_pickle(path, b"\x80\x02}")


def empty_stack(path: Path) -> None:
    with_pickle(path, b"\x80\x0200.")


def unhashable(path: Path) -> None:
    with_pickle(path, b"\x80\x02}]K\x01s.")


def codec_bomb(path: Path) -> None:
    with_pickle(path, pickle.dumps(Run(__import__("_codecs").encode, b"x" * 1000, "zlib"), 2))


def namespace(path: Path) -> None:
    torch.save({"w": torch.zeros(2), "args": argparse.Namespace(lr=1)}, path)


def object_array(path: Path) -> None:
    torch.save({"model": {"w": torch.zeros(2)}, "x": np.array([None, {}])}, path)


def grown_array(path: Path) -> None:
    """An array of more numbers than it brings along."""
    value = {"model": {"w": torch.zeros(2)}, "x": np.zeros(7, dtype=np.uint8)}
    (name, raw), *rest = saved(value)
    grown = raw.replace(b"K\x07\x85", b"J\x00\x00\x00\x7f\x85")
    assert grown != raw
    archive(path, [(name, grown), *rest])


MAKERS = (
    byte_bomb,
    byte_bomb_by_memo,
    memo_bomb,
    array_bomb,
    slow_codec,
    extension,
    by_stack,
    by_inst,
    by_obj,
    by_new,
    evaluated,
    got_by_name,
    from_the_hub,
    through_a_rebuild,
    set_on_a_tensor,
    endless_bytes,
    endless_number,
    endless_frame,
    long_decimal,
    deep_by_hand,
    no_stop,
    empty_stack,
    unhashable,
    codec_bomb,
    namespace,
    object_array,
    grown_array,
)
