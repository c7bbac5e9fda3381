"""Canonical JSON: one byte form for each value."""

from __future__ import annotations

import contextlib
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradient.errors import MalformedObjectError
from gradient.objects import canonical

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=20,
)

NOT_CANONICAL = [
    b'{"b":1,"a":2}',
    b'{"a":1,"a":1}',
    b'{"a": 1}',
    b"[1e5]",
    b"[1.50]",
    b"[NaN]",
    b"[Infinity]",
    b'"\\u0061"',
    b" 1",
    b"1 ",
    b"",
    b"\xff",
    b"{",
    b'"\\ud800"',
    b"[" * 200 + b"]" * 200,
    b"[" * 100_000,
]


@given(VALUES)
def test_values_survive_the_round_trip(value: canonical.Json) -> None:
    raw = canonical.dumps(value)
    assert canonical.dumps(canonical.loads(raw)) == raw


@pytest.mark.parametrize("raw", NOT_CANONICAL)
def test_another_form_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedObjectError):
        canonical.loads(raw)


@given(st.binary(max_size=60))
def test_garbage_raises_only_our_error(raw: bytes) -> None:
    with contextlib.suppress(MalformedObjectError):
        canonical.loads(raw)


@given(st.integers(-(2**2000), 2**2000) | st.floats())
def test_numbers_survive_bit_for_bit(number: int | float) -> None:
    again = canonical.unpack_number(canonical.loads(canonical.dumps(canonical.pack_number(number))))
    assert type(again) is type(number)
    if isinstance(number, float):
        assert struct.pack("<d", again) == struct.pack("<d", number)
    else:
        assert again == number


@pytest.mark.parametrize(
    "node",
    [
        {"int": "0x1"},
        {"int": "1"},
        {"int": "0x" + "f" * 2000},
        {"float": "3ff0000000000000"},
        {"float": "7FF8000000000000"},
        {"float": "7ff8"},
        {"int": 5},
        {"other": "0x1"},
        {"int": "0x20000000000000", "float": ""},
        "1",
        None,
        True,
    ],
)
def test_a_number_in_another_form_is_refused(node: canonical.Json) -> None:
    with pytest.raises(MalformedObjectError):
        canonical.unpack_number(node)


def test_signed_zero_keeps_its_sign() -> None:
    raw = canonical.dumps(canonical.pack_number(-0.0))
    assert raw == b"-0.0"
    assert math.copysign(1, canonical.unpack_number(canonical.loads(raw))) == -1


def test_too_long_text_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "MAX_BYTES", 20)
    with pytest.raises(MalformedObjectError, match="the limit is 20"):
        canonical.dumps("a" * 30)
    monkeypatch.setattr("json.loads", pytest.fail)
    with pytest.raises(MalformedObjectError, match="the limit is 20"):
        canonical.loads(b'"' + b"a" * 30 + b'"')


def test_integers_have_a_limit() -> None:
    most = (1 << 4096) - 1
    assert canonical.unpack_number(canonical.pack_number(-most)) == -most
    with pytest.raises(MalformedObjectError, match="4097 bits"):
        canonical.pack_number(most + 1)
