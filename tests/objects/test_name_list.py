from __future__ import annotations

import pytest

from gradient.objects.name_list import more, shorten


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c"], "a, b and 1 more")],
)
def test_a_long_list_is_cut(names: list[str], text: str) -> None:
    assert shorten(names, 2) == text


def test_numbers_have_separators() -> None:
    assert shorten(map(str, range(1234)), 1, separator="; ") == "0 and 1,233 more"
    assert more(0) == ""
