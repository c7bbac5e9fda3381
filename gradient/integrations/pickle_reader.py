"""Reading pickles without running their code.

The pickle machine runs, but each name that the pickle looks up is replaced by an inert stand-in: a
call only records itself. This shows what the real machine would be asked to do, before it does it,
and reads formats that are pickles without the classes that they name.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NoReturn

from gradient.errors import IntegrityError, MalformedObjectError, UnsupportedValueError
from gradient.state.tensors import ITEM_SIZES

_MOST_OPERATIONS: Final = 20_000_000

STORAGES: Final[dict[str, int]] = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
    "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8,
    "UntypedStorage": 1,
}
"""The storage classes of torch.save, and the bytes of one element."""


class Record:
    """The record of a call: its name, its arguments, and the state set afterwards."""

    name: ClassVar[str] = ""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None
        self.items: list[Any] = []

    def __new__(cls, *_: Any) -> Record:
        """Accept any arguments."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, item: Any) -> None:
        """Accept an item of a list."""
        self.items.append(item)

    def extend(self, items: Any) -> None:
        """Accept items of a list."""
        self.items.extend(items)


Check = Callable[[tuple[Any, ...]], None]


class Machine(pickle.Unpickler):
    """Unpickles with stand-ins. `find` returns the stand-in for a name, or raises."""

    def __init__(
        self, raw: bytes, find: Callable[[str], Any], persistent: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(io.BytesIO(raw))
        self._find = find
        self._persistent = persistent

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return a stand-in: nothing is imported."""
        return self._find(f"{module_name}.{global_name}")

    def persistent_load(self, pid: Any, /) -> Any:
        """Return the stand-in for data outside the pickle."""
        if self._persistent is None:
            raise MalformedObjectError("a pickle refers to data outside of it")
        return self._persistent(pid)


def stand_in(name: str) -> type[Record]:
    """Make the stand-in for a class or function."""
    return type("Record", (Record,), {"name": name})


def run(path: str, machine: Machine, raw: bytes) -> Any:
    """Check a pickle's operations, then run it; every failure is a GradientError."""
    count = _scan(path, raw)
    try:
        return machine.load()
    except (UnsupportedValueError, IntegrityError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever the damage led to
        raise IntegrityError(
            f"{path} holds a pickle that cannot be read ({count} operations): {error}"
        ) from None


def _scan(path: str, raw: bytes) -> int:
    """Refuse memo slots far beyond those in use, on which the pickle machine would spend memory."""
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(raw):
            count += 1
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
                raise IntegrityError(f"{path} holds a pickle with a slot that nothing leads to")
            if opcode.name in ("EXT1", "EXT2", "EXT4"):
                raise IntegrityError(f"{path} holds a pickle that torch.save does not write")
            if count > _MOST_OPERATIONS:
                raise IntegrityError(f"{path} holds a pickle of too many operations")
    except (ValueError, IndexError, UnicodeDecodeError, MemoryError) as error:
        raise IntegrityError(f"{path} holds a pickle that cannot be read: {error}") from None
    return count


# What torch.save writes -------------------------------------------------------------------------


class PickledStorage:
    """A storage of the archive."""

    def __init__(self, elements: int, itemsize: int) -> None:
        self.elements = elements
        self.nbytes = elements * itemsize


class SavedMachine:
    """Reads the pickle of a ``.pt`` file; no call may claim more than the file holds."""

    def __init__(self, path: str, entries: Mapping[str, int]) -> None:
        """Set the archive's names and lengths; `storages` are those under ``data/``."""
        self._path = path
        self._entries = entries
        self.names: set[str] = set()
        """The names that were looked up."""

    def run(self, raw: bytes) -> None:
        """Raise IntegrityError for calls that would allocate more memory than the file holds."""
        run(self._path, Machine(raw, self._find, self._storage), raw)

    def _find(self, name: str) -> Any:
        self.names.add(name)
        check = self._checks().get(name.rpartition(".")[2])
        if name in ("collections.OrderedDict", "collections.Counter"):
            return _Mapping
        return stand_in(name) if check is None else _checked(name, check)

    def _checks(self) -> dict[str, Check]:
        return {
            "bytearray": self._is_text,
            "encode": self._is_text,
            "_rebuild_tensor": self._rebuild,
            "_rebuild_tensor_v2": self._rebuild,
            "_rebuild_tensor_v3": self._rebuild,
            "_rebuild_from_type_v2": self._rebuild_from_type,
            "_rebuild_qtensor": self._refuse,
            "_rebuild_nested_tensor": self._refuse,
            "_rebuild_wrapper_subclass": self._refuse,
            "_reconstruct": self._array,
        }

    def _storage(self, pid: Any) -> PickledStorage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            self._dishonest("a reference that is no storage")
        kind = getattr(pid[1], "name", "").rpartition(".")[2]
        key, elements = pid[2], pid[4]
        itemsize = STORAGES.get(kind)
        if itemsize is None or type(key) is not str or type(elements) is not int:
            self._dishonest("a storage of an unknown kind")
        held = self._entries.get(key)
        if held is None or elements < 0 or elements * itemsize != held:
            self._dishonest(f"a storage that is not as long as it says: {key!r:.40}")
        return PickledStorage(elements, itemsize)

    def _rebuild(self, args: tuple[Any, ...]) -> None:
        if len(args) < 4 or not isinstance(args[0], PickledStorage):
            self._dishonest("a tensor without a storage")
        storage, offset, shape, stride = args[0], args[1], _sizes(args[2]), _sizes(args[3])
        if type(offset) is not int or offset < 0 or shape is None or stride is None:
            self._dishonest("a tensor without shape or strides")
        if len(shape) != len(stride) or len(shape) > 64:
            self._dishonest("a tensor without shape or strides")
        room = storage.elements
        if len(args) > 6 and isinstance(args[6], type) and issubclass(args[6], Record):
            dtype = args[6].name.rpartition(".")[2]  # a third version says so itself
            room = storage.nbytes // ITEM_SIZES.get(dtype, 16)
        if 0 in shape:
            return
        last = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if offset + last >= room:
            self._dishonest("a tensor that reaches outside its storage")

    def _rebuild_from_type(self, args: tuple[Any, ...]) -> None:
        function = args[0] if args else None
        if not isinstance(function, type) or not issubclass(function, Record):
            self._dishonest("a tensor of an unknown kind")
        if len(args) < 3 or not isinstance(args[2], tuple):
            self._dishonest("a tensor of an unknown kind")
        function(*args[2])

    def _is_text(self, args: tuple[Any, ...]) -> None:
        # A number would be a length, and cost a few bytes to claim gigabytes.
        known = ("latin-1", "latin1", "utf-8", "ascii")
        if args and type(args[0]) not in (str, bytes, Record) and not _is_encoded(args[0]):
            self._dishonest("bytes that are made of no text")
        if len(args) > 1 and args[1] not in known:
            self._dishonest("bytes in an unknown encoding")

    def _array(self, args: tuple[Any, ...]) -> None:
        if len(args) != 3 or args[1] != (0,):
            self._dishonest("an array that is not written as NumPy writes it")

    def _refuse(self, args: tuple[Any, ...]) -> None:
        raise UnsupportedValueError(
            self._path,
            "holds quantised, nested or wrapped tensors",
            "Only plain dense tensors can be stored: convert them, and save again",
        )

    def _dishonest(self, what: str) -> NoReturn:
        raise IntegrityError(f"{self._path} claims what it does not hold: {what}")


class _Mapping(dict[Any, Any]):
    """A mapping of the standard library; it ignores further state."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Ignore it."""


def _checked(name: str, check: Check) -> type[Record]:
    def make(self: Record, *args: Any) -> None:
        Record.__init__(self, *args)
        check(args)

    return type("Record", (Record,), {"name": name, "__init__": make})


def _is_encoded(value: Any) -> bool:
    return isinstance(value, Record) and value.name == "_codecs.encode"


def _sizes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, Record) and value.name == "torch.Size" and len(value.args) == 1:
        value = value.args[0]
    if isinstance(value, tuple | list) and all(type(v) is int and v >= 0 for v in value):
        return tuple(value) if math.prod(value) < 1 << 62 else None
    return None
