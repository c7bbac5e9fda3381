"""Mutation test of checks: ignore each check, one at a time, and see that a test fails.

The list of mutants is read from the code. A *guard* is a condition before a ``raise`` where stored
bytes are read; each operand of an ``or`` counts separately. A *measure* is any other comparison
with a hash or a length there. A *rule* is each condition and each step of the protocol between
writers and collections: leases, fences, locks. A mutant makes a guard or measure succeed, answers a
condition with "yes" or "no", or leaves a step out. The tests of that part of the package must fail.
A mutant that survives is a superfluous check, or a guarantee that no test checks.

    python -m tools.campaigns.checks                        all mutants
    python -m tools.campaigns.checks --only Oid.of          mutants with this text
"""

from __future__ import annotations

import argparse
import ast
import gc
import os
import platform
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final, Literal, TypeAlias

import pytest

import gradient
from tools.campaigns.oracle import scratch_folder

Kind: TypeAlias = Literal["guard", "measure", "rule"]
Answer: TypeAlias = Literal["yes", "no", "left out"]

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = Path(gradient.__file__).parent

_COLLECTING: Final = tuple(
    f"maintenance/test_{name}.py"
    for name in ("collecting", "garbage_collection", "recompress", "retained")
)
_FSCK: Final = ("maintenance/test_fsck.py", "maintenance/test_repair.py")
_TREES: Final = ("checkpoint/test_hostile_trees.py", "checkpoint/test_references.py", "checkpoint")

BYTES: Final[dict[str, tuple[str, ...]]] = {
    "checkpoint/component_tensors.py": _TREES,
    "checkpoint/reader.py": _TREES,
    "checkpoint/references.py": _TREES,
    "checkpoint/shared_memory.py": _TREES,
    "codec/": ("codec",),
    "maintenance/fsck/frames.py": _FSCK,
    "maintenance/fsck/log_check.py": _FSCK,
    "maintenance/fsck/packs.py": _FSCK,
    "maintenance/fsck/refs.py": _FSCK,
    "objects/": ("objects",),
    "storage/": ("storage",),
    "store/": ("store", "repo/test_branch_writer.py", *_COLLECTING),
}
"""The files that read stored bytes, and the tests that must notice, the nearest first."""

RULES: Final[dict[str, tuple[str, ...]]] = {
    "maintenance/lock.py": (*_COLLECTING, "maintenance/test_repair.py"),
    "maintenance/garbage_collection.py": _COLLECTING,
    "maintenance/lease_drain.py": _COLLECTING,
    "store/leases.py": ("store/test_leases.py", "maintenance/test_lease_drain.py", *_COLLECTING),
}
"""The files of the protocol between writers and collections."""

_WORDS: Final = re.compile(r"\b(cover|fence|sealed|recheck|settle|_confirm|_follows)\b")
"""Parts of that protocol in other files."""
_LENGTHS: Final = re.compile(r"digest|Oid\.of|hash|size|length|nbytes|\braw\b|stored|len\(")

_FORM: Final = re.compile(r"\btype\(|isinstance\(|\.keys\(\)")
"""Checks of a document's form, which `tools.fuzz` tries."""

_SECONDS: Final = 30
"""The processor time after which a mutant counts as noticed because its tests do not end."""

_ANYWAY: Final = "whatever it answers, the packs themselves are asked next"

UNNEEDED: Final[dict[str, str]] = {
    "codec/coding_plan.py: yes: len(seen.entropies) == width": "it chooses how to code, which is "
    "proved",
    "store/pack_catalogue.py: no: not fs.is_missing(error) and self._storage.size(pack.name) is "
    "not None": "it is opened once more, and that fails, too",
    "store/pack_catalogue.py: yes: self.recheck()": _ANYWAY,
    "store/pack_catalogue.py: no: self.recheck()": _ANYWAY,
    "store/transaction.py: no: places[0][1].raw != len(out)": "reading it would fail, after a "
    "search",
    "store/leases.py: yes: self._refs": "to remove what is not there is no harm",
    "store/frame_reader.py: no: catalogue.recheck()": _ANYWAY,
    "store/frame_reader.py: yes: catalogue.recheck()": "it looks at the same places once more",
}
"""Mutants that no test can notice, by file, answer and text, with the reason."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One ignored check, or one step that is left out."""

    kind: Kind
    file: str
    line: int
    column: int
    answer: Answer
    text: str
    tests: tuple[str, ...]
    """The files and folders below ``tests`` that must notice."""

    @property
    def name(self) -> str:
        """Its name, which does not depend on its line."""
        return f"{self.file}: {self.answer}: {self.text}"

    def __str__(self) -> str:
        return f"{self.kind} {self.file}:{self.line}: {self.answer}: {self.text}"


def mutants() -> list[Mutant]:
    """Return all mutants, file by file."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        read = next((tests for start, tests in BYTES.items() if file.startswith(start)), ())
        tree = ast.parse(path.read_text(encoding="utf-8"))
        seen: set[tuple[ast.AST, Answer]] = set()
        for kind, node, answer in _checks(tree, file, bool(read)):
            if (node, answer) not in seen:
                seen.add((node, answer))
                tests = _tests(
                    file, RULES.get(file, read or ("repo/test_branch_writer.py", *_COLLECTING))
                )
                text = " ".join(ast.unparse(node).split())
                found.append(Mutant(kind, file, node.lineno, node.col_offset, answer, text, tests))
    return found


def _tests(file: str, tests: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tests with those of the file itself first."""
    own = f"{Path(file).parent}/test_{Path(file).name}"
    return (own, *tests) if (ROOT / "tests" / own).exists() else tests


def _checks(tree: ast.Module, file: str, read: bool) -> Iterator[tuple[Kind, ast.expr, Answer]]:
    for node in ast.walk(tree):
        if read and isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):
            for part in _alternatives(node.test):
                if not _FORM.search(ast.unparse(part)):
                    yield "guard", part, "no"
        if read and isinstance(node, ast.Compare) and _measures(node):
            yield "measure", node, "yes" if isinstance(node.ops[0], ast.Eq) else "no"
        for part in _conditions(node):
            ruled = file in RULES and not _FORM.search(ast.unparse(part))
            if ruled or _WORDS.search(ast.unparse(part)):
                yield "rule", part, "yes"
                yield "rule", part, "no"
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            text = ast.unparse(node.value)
            told = text.startswith(("_LOG", "self._report", "self.progress"))
            if not told and (file in RULES or _WORDS.search(text.partition("(")[0])):
                yield "rule", node.value, "left out"


def _alternatives(test: ast.expr) -> list[ast.expr]:
    return test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or) else [test]


def _measures(node: ast.Compare) -> bool:
    """Return whether a node compares hashes or lengths and neither side is a number or its name."""
    sides = [node.left, *node.comparators]
    equal = isinstance(node.ops[0], ast.Eq | ast.NotEq)
    fixed = any(isinstance(s, ast.Constant) or ast.unparse(s).isupper() for s in sides)
    return equal and not fixed and _LENGTHS.search(ast.unparse(node)) is not None


def _conditions(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the operands of a condition."""
    tests: list[ast.expr] = []
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        tests = [node.test]
    elif isinstance(node, ast.comprehension):
        tests = node.ifs
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.BoolOp | ast.Compare):
        tests = [node.value]
    while tests:
        test = tests.pop()
        if isinstance(test, ast.BoolOp):
            tests += test.values
        elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            tests.append(test.operand)
        elif not isinstance(test, ast.Constant):
            yield test


class _Ignoring(ast.NodeTransformer):
    """Replaces the answer of a condition, or removes a step."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self.path: list[ast.AST] = []
        self.owner: ast.AST | None = None
        """The outermost function that contains it."""

    def visit(self, node: ast.AST) -> ast.AST:
        """Change the one node and record its position."""
        mutant = self._mutant
        place = (getattr(node, "lineno", 0), getattr(node, "col_offset", -1))
        is_it = isinstance(node, ast.expr) and place == (mutant.line, mutant.column)
        if is_it and " ".join(ast.unparse(node).split()) == mutant.text:
            functions = [n for n in self.path if isinstance(n, ast.FunctionDef)]
            self.owner = functions[0] if functions else None
            source = {
                "yes": f"({mutant.text}, True)[1]",
                "no": f"({mutant.text}, False)[1]",
                "left out": f"(None if True else {mutant.text})",
            }[mutant.answer]
            changed = ast.parse(source, mode="eval").body
            for each in ast.walk(changed):
                ast.copy_location(each, node)
            return changed
        self.path.append(node)
        self.generic_visit(node)
        self.path.pop()
        return node


def install(mutant: Mutant) -> None:
    """Replace the functions of this process that contain a check, permanently."""
    path = PACKAGE / mutant.file
    change = _Ignoring(mutant)
    tree = change.visit(ast.parse(path.read_text(encoding="utf-8")))
    owner = change.owner
    if not isinstance(tree, ast.Module) or not isinstance(owner, ast.FunctionDef):
        raise ValueError(f"not in a function: {mutant}")
    first = min([owner.lineno, *(each.lineno for each in owner.decorator_list)])
    name = (owner.name, first)
    new = next(code for code in _codes(compile(tree, str(path), "exec")) if _name(code) == name)
    functions = [
        each
        for each in gc.get_objects()
        if isinstance(each, FunctionType)
        and each.__code__.co_filename == str(path)
        and _name(each.__code__) == name
    ]
    if not functions:
        raise ValueError(f"nothing in this process has it: {mutant}")
    for function in functions:
        function.__code__ = new


def _name(code: CodeType) -> tuple[str, int]:
    return code.co_name, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def attempt(mutant: Mutant | None, tests: tuple[str, ...], *, seconds: int) -> int:
    """Run tests in a child process with a mutant; return 0 if all pass."""
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        signal.alarm(10 * seconds)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2) if mutant is not None else (0,):
            os.dup2(null, descriptor)
        if mutant is not None:
            install(mutant)
        os._exit(_pytest(*tests))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _pytest(*arguments: str) -> int:
    files = [a if a.startswith("-") else str(ROOT / "tests" / a) for a in arguments]
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    return int(pytest.main([*options, *dict.fromkeys(files)]))


def main() -> int:
    """Try the mutants and print the score; return 1 if a mutant survives."""
    parser = argparse.ArgumentParser(prog="python -m tools.campaigns.checks")
    parser.add_argument("--only", default="", help="those that have this in their text, or file")
    parser.add_argument("--stride", type=int, default=1, help="try each Nth (default 1)")
    options = parser.parse_args()
    begun = time.monotonic()
    chosen = [m for m in mutants() if options.only in str(m) and m.name not in UNNEEDED]
    if not chosen:
        parser.error(f"no check has {options.only!r} in its text or file")
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as scratch:
        tempfile.tempdir = scratch  # where the tests have their folders
        chosen = chosen[:: options.stride]
        whole = options.stride == 1
        alive = score(chosen, lambda line: print(line, flush=True), proved=whole)
    print(
        f"{len(chosen) - len(alive)} of {len(chosen)} mutants noticed in "
        f"{time.monotonic() - begun:.0f} s; Python {platform.python_version()}"
    )
    return 1 if alive else 0


def score(chosen: Sequence[Mutant], log: Callable[[str], object], *, proved: bool) -> list[Mutant]:
    """Try mutants and return the survivors. If `proved`, the tests must pass without a mutant."""
    tests = tuple(dict.fromkeys(test for mutant in chosen for test in mutant.tests))
    if _pytest("--collect-only", "-qq", *tests):
        raise SystemExit("the tests can not be collected")
    if proved and attempt(None, tests, seconds=20 * _SECONDS):
        raise SystemExit("the tests do not pass as it is")
    alive = []
    for mutant in chosen:
        begun = time.monotonic()
        status = attempt(mutant, mutant.tests, seconds=_SECONDS)
        told = {0: "SURVIVES", 1: "noticed"}.get(status, "does not end")
        log(f"{mutant}: {told} {time.monotonic() - begun:.1f} s")
        if status == 0:
            alive.append(mutant)
    return alive


if __name__ == "__main__":
    sys.exit(main())
