"""The rules of the code that `lint-imports` cannot check. (It checks the layers.)"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gradient

PACKAGE = Path(gradient.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
PACKAGES = [name for name in MODULES if name.endswith("/__init__.py")]

WITHOUT_TORCH = [
    "gradient",
    "gradient.errors",
    "gradient.objects",
    "gradient.codec",
    "gradient.storage.directory",
    "gradient.store.object_store",
    "gradient.store.refs",
    "gradient.repo.discovery",
    "gradient.repo.repository",
    "gradient.cli.main",
]
"""These modules are imported without torch, because importing torch takes seconds."""

READS_ENVIRONMENT = {"engine/attach_request.py"}
"""The only module outside the command line that may read environment variables."""

WRITES_TO_STREAMS = {"engine/shutdown/progress_line.py", "engine/maintenance_worker.py"}
"""Other modules that write to the standard streams: a progress line, and a child's report."""

EXITS = {"engine/shutdown/exit_status.py", "state/dataloader_workers.py"}
"""Other modules that may end a process: after an unreported failure, and in a loader's worker."""


def calls(tree: ast.AST, spelled: set[str]) -> list[int]:
    """Return the lines that mention one of the dotted names."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name))
    return [node.lineno for node in nodes if ast.unparse(node) in spelled]


def parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_imports_without_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    path = str(PACKAGE.parent)
    environment = {"PYTHONPATH": path, "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr or f"{module} imports torch"


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("cli/")])
def test_only_the_command_line_prints_exits_and_reads_the_environment(module: str) -> None:
    tree = parse(module)
    assert calls(tree, {"print", "sys.exit", "exit", "quit"}) == []
    assert calls(tree, {"sys.stdout", "sys.stderr"}) == [] or module in WRITES_TO_STREAMS
    assert calls(tree, {"os._exit"}) == [] or module in EXITS
    if module not in READS_ENVIRONMENT:
        assert calls(tree, {"os.environ", "os.getenv", "getenv"}) == []


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("storage/fs/")])
def test_only_one_package_changes_the_file_system(module: str) -> None:
    verbs = {"open", "os.open", "os.replace", "os.rename", "os.link", "os.unlink", "os.remove"}
    verbs |= {"os.fsync", "os.write", "os.mkdir", "os.makedirs", "shutil.rmtree", "shutil.move"}
    assert calls(parse(module), verbs) == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_unpickled(module: str) -> None:
    found = calls(parse(module), {"pickle.load", "pickle.loads"})
    assert found == [] or module.startswith(("state/", "view/"))
    # One module parses pickles. Its unpickler finds only our placeholders, and imports nothing.
    assert (
        calls(parse(module), {"pickle.Unpickler"}) == []
        or module == "integrations/pickle_reader.py"
    )


def imported(module: str) -> set[str]:
    """Return the modules of this package that a module imports, also under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradient"):
            base = "/".join((node.module or "").split(".")[1:])
            for name in node.names:
                paths = [f"{base}/{name.name}.py", f"{base}/{name.name}/__init__.py", f"{base}.py"]
                found |= {path for path in paths if path in MODULES}
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Nor indirectly. `below` has the modules outside of any circle, the lowest layers first."""
    below: list[str] = []
    pending = {module: imported(module) for module in MODULES}
    while free := [module for module, needs in pending.items() if needs <= set(below)]:
        below += free
        for module in free:
            del pending[module]
    assert not pending, f"these import each other, or a module that does: {sorted(pending)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_has_a_docstring(package: str) -> None:
    assert len(ast.get_docstring(parse(package)) or "") > 30
