from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gradient.cli import output
from tests.cli.command import call, spawn

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def shown(*words: str, **environment: str) -> bytes:
    """Return the bytes that a command in a separate process prints."""
    with spawn(*words, env=environment) as process:
        assert process.stdout is not None
        written: bytes = process.stdout.buffer.read()  # type: ignore[attr-defined]
    assert process.returncode == 0
    return written


def test_characters_that_the_terminal_cannot_show(history: PlainRepo) -> None:
    call("tag", "v1", "-m", "a → b")
    assert b"a ? b" in shown("tag", PYTHONIOENCODING="latin-1")
    assert "a → b".encode() in shown("tag", PYTHONIOENCODING="utf-8")


def test_a_folder_name_that_is_not_text_is_shown_by_its_bytes(history: PlainRepo) -> None:
    odd = history.workspace.rename(os.fsdecode(b"odd\xff"))
    output_bytes = shown("status", PYTHONIOENCODING="utf-8:strict", GRADIENT_WORKSPACE=str(odd))
    assert b"/odd\xff/gpt\n" in output_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1000 * 1024, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("count", "what", "text"),
    [(1, "anchor", "1 anchor"), (0, "delta", "0 deltas"), (12345, "branch", "12,345 branches")],
)
def test_plural(count: int, what: str, text: str) -> None:
    assert output.plural(count, what) == text


def test_table_alignment_ignores_colour_codes(capsys: pytest.CaptureFixture[str]) -> None:
    output.table([(output.bold("a"), "1"), ("long", "2"), ("", "")], indent=1)
    assert capsys.readouterr().out == " a     1\n long  2\n\n"


def test_an_empty_table_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.table([])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("value", "colour"), [("1", False), ("", None)])
def test_no_color(value: str, colour: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    assert output.colour() is colour


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("reading", 2) as advance:
        advance(1)
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_stages_are_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with output.stages() as advance:
        advance("marking", 1)
    assert capsys.readouterr() == ("", "")


def test_stages_are_drawn_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output.sys.stderr, "isatty", lambda: True)
    with output.stages(("copying",)) as advance:
        for _ in range(3):
            advance("marking", 1000)
        advance("copying", 5 << 20)
    shown = [line.split("\r")[-1].strip() for line in capsys.readouterr().err.split("\n")]
    assert [line for line in shown if line] == ["marking: 3,000", "copying: 5.0 MiB"]


def test_metrics_that_json_cannot_hold_become_text() -> None:
    metrics = {"a": float("nan"), "b": float("-inf"), "c": 2, "d": 0.5}
    assert output.plain_numbers(metrics) == {"a": "nan", "b": "-inf", "c": 2, "d": 0.5}


@pytest.mark.parametrize("count", [3, 4, 100])
def test_a_terminal_pages_long_output(
    count: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paged: list[str] = []
    monkeypatch.setattr(output.sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("LINES", "4")
    monkeypatch.setenv("LESS", "")
    monkeypatch.setattr(output.click, "echo_via_pager", lambda lines, _: paged.extend(lines))
    output.pages(f"line {number}" for number in range(count))
    expected = [f"line {number}\n" for number in range(count)]
    assert (
        (paged, capsys.readouterr().out) == ([], "".join(expected)) if count < 4 else (expected, "")
    )


def test_piped_output_is_not_paged(capsys: pytest.CaptureFixture[str]) -> None:
    output.pages(f"line {number}" for number in range(600))
    assert capsys.readouterr().out.splitlines() == [f"line {number}" for number in range(600)]
