"""The thin ``.pt`` file: half a kilobyte that `torch.load` turns into the payload from the store.

It is a torch archive whose one pickled global is `gradient.thin_file_needs_gradient_export`, so
that a machine without Gradient says in its error what to do. This module imports nothing of
weight: `import gradient` goes through it to make that name known to torch as safe.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

GLOBAL: Final = "gradient.thin_file_needs_gradient_export"
"""The name inside thin files. It is part of the format and never changes."""

_MODULE, _, _FUNCTION = GLOBAL.rpartition(".")


def thin_file_needs_gradient_export(commit: str, revision: str, repo: str) -> dict[str, Any]:
    """Return the payload of a commit, read from the store; `torch.load` calls this for thin files.

    Looks in the repo the file was written in, then in those around the current directory. Raises
    ContextError where none has the commit; to get a file that needs no store, use
    ``gradient export REVISION PATH`` where the repo is.
    """
    # Lazily, so that `import gradient` and torch's unpickler stay light until a file is opened.
    from gradient.view.thin_resolver import find_payload

    return find_payload(commit, revision, repo)


def to_bytes(commit: str, revision: str, repo: str, *, comment: bytes) -> bytes:
    """Encode a thin file: a stored zip archive with torch's entries, ending with `comment`."""
    text = b"".join(map(_text, (commit, revision, repo)))
    call = f"\x80\x02c{_MODULE}\n{_FUNCTION}\n".encode("latin-1") + text + b"\x87R."
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("data.pkl", call), ("byteorder", b"little"), ("version", b"3\n")):
            # A fixed time: the same commit gives the same bytes.
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
        archive.comment = comment
    return out.getvalue()


def register() -> None:
    """Make the one global safe for `torch.load`, now or as soon as torch is imported."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "serialization"):
        _add_safe_global(torch)
    elif not any(isinstance(finder, _TorchWatcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchWatcher())


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + len(raw).to_bytes(4, "little") + raw


def _add_safe_global(torch: ModuleType) -> None:
    torch.serialization.add_safe_globals([(thin_file_needs_gradient_export, GLOBAL)])


class _TorchWatcher(MetaPathFinder):
    """Waits for the import of torch, lets it happen, registers the global, and goes away.

    Importing torch here would cost everyone who imports Gradient for something else many seconds;
    asking users to call something first would make the default `torch.load` fail.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torch":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((found for found in specs if found is not None), None)
        if spec is not None and spec.loader is not None:
            self._register_after(spec)
        return spec

    def _register_after(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        execute = getattr(loader, "exec_module", None)
        if execute is None or not hasattr(loader, "__dict__"):
            return  # no loader we know: then torch.load asks for weights_only=False

        def execute_and_register(module: ModuleType) -> None:
            vars(loader).pop("exec_module")
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            _add_safe_global(module)

        loader.exec_module = execute_and_register  # type: ignore[method-assign, union-attr]
