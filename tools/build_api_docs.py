"""Write docs/api.md, the reference of the public Python API, from the docstrings.

With --check nothing is written; the exit status is 1 if the page is not up to date.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradient

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"

HEAD = """\
# Python API

<!-- Made by tools/build_api_docs.py from the docstrings: change those, then run it. -->

These are the public names of the package `gradient`. Other names may change in any release.
[The quickstart](quickstart.md) shows how they work together.

"""

CLASSES = ("GradientEngine", "GradientConfig", "Keep", "Revision", "Repo", "Commit")
"""The classes that come first, in this order; the others follow by name."""

WIDTH = 88


class Annotation:
    """An annotation that is written as in the source, without quotes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def docstring(thing: Any) -> str:
    """Return the docstring that a thing has of its own, without indentation."""
    return inspect.cleandoc(getattr(thing, "__doc__", None) or "")


def signature(name: str, function: Any) -> str:
    """Return the call of a function as Python, one parameter a line if it is long."""
    found = inspect.signature(function)
    parameters = [
        each.replace(annotation=Annotation(each.annotation))
        for each in found.parameters.values()
        if each.name not in ("self", "cls")
    ]
    result = Annotation(found.return_annotation)
    text = f"{name}{found.replace(parameters=parameters, return_annotation=result)}"
    if len(text) <= WIDTH:
        return text
    lines = []
    named = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            lines.append("    *,")
        named = named or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        lines.append(f"    {parameter},")
    return "\n".join([f"{name}(", *lines, f") -> {result}"])


def fields(cls: type) -> Iterator[tuple[str, str]]:
    """Yield the annotated fields of a class that have a docstring: their source and that."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError):  # built in
        return
    if not isinstance(body, ast.ClassDef):
        return
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(doc))),
            ) if not name.startswith("_"):
                yield ast.unparse(field), inspect.cleandoc(doc)


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class, those of its own bases included."""
    seen = set()
    for base in (base for base in cls.__mro__ if base.__module__.startswith("gradient")):
        for name, member in vars(base).items():
            method = inspect.isroutine(member) or isinstance(member, (property, classmethod))
            if method and not name.startswith("_") and name not in seen and docstring(member):
                seen.add(name)
                yield name, member


def code(text: str) -> str:
    """Return a block of Python that is shown and not run."""
    return f"```py\n{text}\n```\n"


def class_section(name: str, cls: type) -> Iterator[str]:
    """Yield the parts of the section of a class."""
    yield f"## {name}\n"
    yield docstring(cls) + "\n"
    listed = [
        f"- `{source}`\n{textwrap.indent(doc, '  ')}"
        for base in reversed(cls.__mro__)
        if base.__module__.startswith("gradient")
        for source, doc in fields(base)
    ]
    if listed:
        yield "\n".join(listed) + "\n"
    for title, member in members(cls):
        yield f"### {name}.{title}\n"
        if isinstance(member, property):
            assert member.fget is not None
            yield code(f"{title}: {inspect.get_annotations(member.fget)['return']}")
        else:
            yield code(signature(title, getattr(cls, title)))
        yield docstring(member) + "\n"


def exceptions(found: dict[str, type[gradient.GradientError]]) -> Iterator[str]:
    """Yield the parts of the section of exceptions."""
    yield "## Exceptions\n"
    yield (
        "All derive from `GradientError`. `kind` is a word for scripts that does not change.\n"
        "The exit code is the one of the command line. [Troubleshooting](troubleshooting.md)\n"
        "explains each.\n"
    )
    for name, cls in found.items():
        bases = ", ".join(f"`{base.__name__}`" for base in cls.__bases__)
        yield f"### {name}\n"
        yield f"Kind `{cls.kind}`, exit code {cls.exit_code}. Derives from {bases}.\n"
        yield docstring(cls) + "\n"
        listed = [f"- `{source}`\n{textwrap.indent(doc, '  ')}" for source, doc in fields(cls)]
        if listed:
            yield "\n".join(listed) + "\n"


def page() -> str:
    """Return the page."""
    public = {name: getattr(gradient, name) for name in gradient.__all__ if name[0] != "_"}
    classes = {name: thing for name, thing in public.items() if inspect.isclass(thing)}
    errors = {
        name: thing for name, thing in classes.items() if issubclass(thing, gradient.GradientError)
    }
    functions = {name: thing for name, thing in public.items() if inspect.isfunction(thing)}
    others = [name for name in classes if name not in errors and name not in CLASSES]
    parts: list[str] = []
    for name in (*CLASSES, *others):
        parts.extend(class_section(name, classes[name]))
    parts.append("## Functions\n")
    for name, function in functions.items():
        parts.extend([f"### {name}\n", code(signature(name, function)), docstring(function) + "\n"])
    parts.extend(exceptions(errors))
    return HEAD + "\n".join(parts)


def main() -> int:
    """Write or compare the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") == page():
            return 0
        print("docs/api.md is not up to date: python tools/build_api_docs.py", file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
