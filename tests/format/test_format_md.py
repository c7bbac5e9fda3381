"""The examples of docs/format.md are what the code writes and reads; its tables are the code's."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import pytest
import torch

from gradient.checkpoint import reader, subtree_grouping, writer
from gradient.codec import stream
from gradient.codec.chunks import CHUNK_BYTES
from gradient.codec.frame import Codec, Encoded, decode_into
from gradient.codec.mode import Mode
from gradient.errors import MalformedObjectError
from gradient.maintenance.fsck import tree_values
from gradient.objects import canonical, tree
from gradient.objects.commit import MAX_STEP, CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.state import decoder, tensors, value_format
from gradient.storage.memory import MemoryStorage
from gradient.store import frame_reader, leases, pack_format, ref_names
from gradient.store.object_store import ObjectStore
from gradient.store.pack import PackWriter
from gradient.store.pack_format import FrameRow
from gradient.store.ref_record import RefRecord
from gradient.store.retention_log import MAX_BYTES, RetentionRecord

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+) ([\w-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

BLOB = b"gradient"
BLOB_ID = Oid.of(Kind.BLOB, BLOB)
TIME = "2026-02-10T12:34:56.000000"


def fences(language: str) -> dict[str, str]:
    """Return the named examples of one language."""
    return {name: body for kind, name, body in FENCE.findall(PAGE) if kind == language}


def hex_of(name: str) -> bytes:
    """Return the bytes of a hex example, without its blanks and comments."""
    lines = fences("hex")[name].splitlines()
    return bytes.fromhex("".join(line.partition("#")[0] for line in lines))


def json_of(name: str) -> bytes:
    """Return the bytes of a JSON example, without its breaks and indentation."""
    return "".join(line.strip() for line in fences("json")[name].splitlines()).encode()


def stored(state: dict[str, Any]) -> tuple[ObjectStore, Oid]:
    """Write a state into a new store; return its root tree."""
    store = ObjectStore(MemoryStorage(), workers=1)
    with store.begin(mode=Mode.OFF) as transaction:
        root = writer.write_state(transaction, state)
        transaction.seal()
    return store, root


def component(value: Any) -> tuple[ObjectStore, bytes]:
    """Store a value as a component; return its tree's bytes."""
    store, root = stored({"model": value})
    (entry,) = reader.component_entries(store, root).values()
    assert isinstance(entry, dict)
    return store, store.read(Oid.parse(entry["tree"]), Kind.TREE)


def tensor(value: torch.Tensor) -> bytes:
    """Return the JSON of one tensor."""
    body = json.loads(component([value])[1])
    return canonical.dumps(body["value"][0]["tensor"])


def module() -> bytes:
    weight, bias = torch.tensor([[1.0, 2.0]]), torch.zeros(1)
    store, top = component({"lin.weight": weight, "lin.bias": bias})
    return store.read(Oid.parse(json.loads(top)["entries"]["lin"]["tree"]), Kind.TREE)


def tied() -> bytes:
    weight = torch.tensor([[1.0, 2.0]])
    return component({"wte.weight": weight, "head.weight": weight})[1]


def tied_module() -> bytes:
    weight = torch.tensor([[1.0, 2.0]])
    store, top = component({"wte.weight": weight, "head.weight": weight})
    return store.read(Oid.parse(json.loads(top)["entries"]["wte"]["tree"]), Kind.TREE)


def root() -> bytes:
    store, oid = stored({"model": {"w": torch.zeros(1)}})
    return store.read(oid, Kind.TREE)


COMMIT = CommitRecord(
    tree=Oid(bytes(32)),
    parents=(),
    anchor=None,
    step=100,
    branch="main",
    time=TIME,
    message="first",
    metrics={"loss": 2.5, "worst": float("inf")},
)

JSON: dict[str, Callable[[], bytes]] = {
    "tensor-chunked": lambda: tensor(torch.ones(200)),
    "tensor-parameter": lambda: tensor(
        torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.bfloat16))
    ),
    "tree-names": lambda: component({"b": 1, "a": (2,)})[1],
    "tree-module": module,
    "tree-root": root,
    "tree-tied": tied,
    "tree-tied-module": tied_module,
    "commit": COMMIT.to_bytes,
    "ref-record": lambda: RefRecord(1, BLOB_ID, "move", 0, TIME, "0" * 32, "commit").to_bytes(
        "heads/main"
    ),
    "retention-record": lambda: RetentionRecord(
        1, (BLOB_ID,), ("optimizer",), "--keep-last 5 --drop optimizer", TIME
    ).to_bytes(),
    "lease": lambda: leases.encode(["heads/main", "heads/main.run2"]),
}


def raw_frame(body: bytes) -> Encoded:
    return Encoded(Codec.RAW, (body,), len(body))


def pack() -> bytes:
    storage = MemoryStorage()
    out = PackWriter(storage.create())
    for kind, body in ((Kind.BLOB, BLOB), (Kind.TREE, b'{"value":1}')):
        out.append(kind, Oid.of(kind, body), len(body), raw_frame(body))
    return storage.contents[out.publish().name]


HEX: dict[str, Callable[[], bytes]] = {
    "hashed-blob": lambda: b"blob 8\0" + BLOB,
    "blob-id": lambda: BLOB_ID,
    "list-body": lambda: bytes(BLOB_ID) * 2,
    "commit-id": lambda: COMMIT.oid,
    "pack": pack,
    "frame-with-base": lambda: (
        FrameRow(
            oid=Oid(b"\x11" * 32),
            offset=0,
            stored=1234,
            raw=CHUNK_BYTES,
            kind=Kind.BLOB,
            codec=Codec.DELTA,
            base=Oid(b"\x22" * 32),
        ).header
    ),
}


@dataclass(frozen=True, slots=True)
class Content:
    """What a payload decodes to."""

    codec: Codec
    raw: bytes
    base: bytes | None = None


BFLOATS = [*range(0x3F80, 0x3F88), *range(0xBF80, 0xBF87), 0xBFC0]
RARE = [{3: 2, 400: 5}.get(place, 0) for place in range(600)]

PAYLOADS = {
    "payload-raw": Content(Codec.RAW, b"grad"),
    "payload-zstd": Content(Codec.ZSTD, b'{"step":100}' * 8),
    "payload-planes-constant": Content(Codec.PLANES, struct.pack("<f", 1.0) * 32),
    "payload-planes-rotated": Content(Codec.PLANES, struct.pack("<16H", *BFLOATS)),
    "payload-planes-seven": Content(
        Codec.PLANES, struct.pack("<8I", *(0x3F000000 | value << 16 for value in range(1, 9)))
    ),
    "payload-planes-sparse": Content(Codec.PLANES, struct.pack("<600H", *RARE)),
    "payload-planes-zstd": Content(Codec.PLANES, struct.pack("<4f", 1.0, -1.0, 0.5, -0.5) * 8),
    "payload-delta": Content(
        Codec.DELTA, struct.pack("<8H", *range(8)), struct.pack("<8H", *range(1, 9))
    ),
}

VALUES = [line.split("  =>  ") for line in fences("text")["values"].splitlines()]
QUOTED = [line.split("  =>  ") for line in fences("text")["quoted"].splitlines()]
SCOPE = {
    "numpy": numpy,
    "torch": torch,
    "OrderedDict": OrderedDict,
    "Counter": Counter,
    "defaultdict": defaultdict,
    "deque": deque,
}


def test_every_example_is_checked() -> None:
    assert fences("hex").keys() == HEX.keys() | PAYLOADS.keys()
    assert fences("json").keys() == JSON.keys()
    assert not re.search(r"^```(hex|json)$", PAGE, re.MULTILINE), "an example without a name"


@pytest.mark.parametrize("name", HEX)
def test_hex_is_what_the_code_makes(name: str) -> None:
    assert hex_of(name).hex() == HEX[name]().hex()


@pytest.mark.parametrize("name", JSON)
def test_json_is_what_the_code_writes(name: str) -> None:
    assert json_of(name).decode() == JSON[name]().decode()


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_decodes_to_what_the_page_says(name: str) -> None:
    # This way round: a payload is read for ever, while writers may find a smaller one.
    expected = PAYLOADS[name]
    out = bytearray(len(expected.raw))
    decode_into(expected.codec, hex_of(name), memoryview(out), base=expected.base)
    assert bytes(out) == expected.raw


@pytest.mark.parametrize(("spelling", "form"), VALUES, ids=[spelling for spelling, _ in VALUES])
def test_values_are_stored_as_the_page_says(spelling: str, form: str) -> None:
    value = eval(spelling, dict(SCOPE))  # noqa: S307 - our own page
    body = component([value])[1]
    assert body == b'{"value":[%s]}' % form.encode()
    assert tree.parse(body).to_bytes() == body
    (back,) = reader.read_state(*stored({"model": [value]}))["model"]
    assert type(back) is type(value)
    assert component([back])[1] == body


def test_the_example_of_a_pack_can_be_read() -> None:
    storage = MemoryStorage()
    content = hex_of("pack")
    pack_id = content[-40:-8].hex()
    storage.contents[f"objects/pack/{pack_id}.pack"] = content
    store = ObjectStore(storage, workers=1)
    assert store.read(BLOB_ID, Kind.BLOB) == BLOB
    assert not store.problems


def test_the_example_of_a_record_can_be_read() -> None:
    record = RefRecord.from_bytes(json_of("ref-record"), "heads/main", 1)
    assert record.commit == BLOB_ID


def test_the_example_of_a_retention_record_can_be_read() -> None:
    assert RetentionRecord.from_bytes(json_of("retention-record"), 1).commits == (BLOB_ID,)


@pytest.mark.parametrize(("name", "quoted"), QUOTED)
def test_names_are_quoted_as_the_page_says(name: str, quoted: str) -> None:
    assert ref_names.quote(name) == quoted
    assert ref_names.unquote(quoted) == name


def section(title: str) -> str:
    """Return what stands between a heading and the next one of its level or above."""
    _, mark, rest = PAGE.partition(f"\n{title}\n")
    assert mark, title
    level = title.split()[0]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def column(text: str, number: int = 1) -> list[str]:
    """Return the code words in one column of the tables of a section."""
    cells = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    return [word for row in cells for word in re.findall(r"`([^`]+)`", row[number])]


def test_the_page_lists_the_tags() -> None:
    assert set(column(section("## Values"))) == decoder._DECODERS.keys()


def test_the_page_lists_the_factories() -> None:
    text = section("## Values").partition("`factory` is null or one of ")[2].partition(". A reader")
    assert set(re.findall(r"`(\w+)`", text[0])) == value_format.FACTORIES.keys()


def test_the_page_lists_the_dtypes() -> None:
    rows = re.findall(r"`(\w+)` \| (\d+) ", section("## Tensors"))
    assert {name: int(size) for name, size in rows} == tensors.ITEM_SIZES


def test_the_page_lists_the_kinds() -> None:
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \| (\d) \|", section("## Object ids"), re.MULTILINE)
    assert {(name, word, int(number)) for name, word, number in rows} == {
        (kind.name.lower(), kind.value, number) for kind, number in pack_format.KIND_IDS.items()
    }


def test_the_page_lists_the_codecs_and_methods() -> None:
    rows = re.findall(r"^\| (\d) \| ([A-Z]+) \|", section("## Frame payloads"), re.MULTILINE)
    numbers = [(name, int(number)) for number, name in rows]
    codecs, methods = numbers[: len(Codec)], numbers[len(Codec) :]
    assert dict(codecs) == {codec.name: codec.value for codec in Codec}
    assert dict(methods) == {
        "RAW": stream.RAW,
        "ZSTD": stream.ZSTD,
        "CONSTANT": stream.CONSTANT,
        "SEVEN": stream.SEVEN,
        "SPARSE": stream.SPARSE,
    }


def test_the_page_names_the_limits() -> None:
    limits = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section("## Limits"), re.MULTILINE))
    assert limits["body of a blob"] == "2^20 bytes"
    assert pack_format.MAX_RAW[Kind.BLOB] == CHUNK_BYTES == 2**20
    assert limits["body of a list, tree or commit"] == "2^26 bytes"
    assert canonical.MAX_BYTES == 2**26
    nesting = limits["nesting of canonical JSON; of one value"]
    assert nesting == f"{canonical.MAX_DEPTH} levels; {value_format.MAX_DEPTH}"
    assert limits["bytes of data or of a tensor inline"] == str(value_format.INLINE_BYTES)
    assert limits["bytes above which a reader takes chunks as well"] == str(
        value_format.CHUNKED_BYTES
    )
    assert (tree_values.INLINE_BYTES, tree_values.CHUNKED_BYTES) == (
        value_format.INLINE_BYTES,
        value_format.CHUNKED_BYTES,
    )
    assert limits["chunks named in the tree"] == str(writer.LISTED_CHUNKS)
    assert limits["step"] == "2^53 - 1"
    assert MAX_STEP == 2**53 - 1
    assert limits["chain of bases"] == str(frame_reader.MAX_DEPTH)
    assert limits["quoted ref name"] == f"{ref_names.MAX_QUOTED} characters"
    assert limits["retention record"] == "2^20 bytes"
    assert MAX_BYTES == 2**20


def test_the_page_says_how_components_are_cut() -> None:
    text = section("## Trees")
    assert f"more than {subtree_grouping.SPLIT} names" in text
    assert f"longer than\n{writer.SUBTREE_BYTES} bytes" in text


def test_the_tables_of_bytes_add_up() -> None:
    for title, struct_size in (
        ("header", pack_format.HEADER.size),
        ("trailer", pack_format.TRAILER.size),
    ):
        assert re.search(rf"\*\*{title}\*\* has {struct_size} bytes", PAGE)
    assert (
        f"Its header has {pack_format.FRAME.size} bytes, or {pack_format.FRAME.size + 32}" in PAGE
    )
    assert f"one row of {pack_format.ROW.itemsize} bytes" in PAGE


def test_an_order_that_is_the_names_is_left_out() -> None:
    assert b"order" not in Tree({"a": 1, "b": 2}).to_bytes()


def test_an_integer_that_needs_a_tag_is_refused_without_it() -> None:
    assert canonical.unpack_number({"int": "0x20000000000000"}) == 2**53
    with pytest.raises(MalformedObjectError, match="not a number"):
        canonical.unpack_number(2**53)
    large = torch.Size([2**53, 0])
    (back,) = reader.read_state(*stored({"model": [large]}))["model"]
    assert back == large


def test_a_default_that_is_spelled_out_is_refused() -> None:
    for body in (b'{"storages":[],"value":1}', b'{"entries":{},"flat":false}'):
        with pytest.raises(MalformedObjectError, match="spells out a default"):
            tree.parse(body)
