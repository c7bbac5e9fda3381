"""`gradient diff`: compare two states tensor by tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_revision
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.errors import NotFoundError, UnknownRevisionError
from gradient.objects.name_list import more
from gradient.repo import revision_grammar
from gradient.storage import fs
from gradient.view.number_format import form, heat, not_finite, number

if TYPE_CHECKING:
    from gradient.checkpoint.diff import LayerChange, StateDiff, TensorChange
    from gradient.view.compare import Comparison, Side

_BAR = 24


@click.command("diff")
@location_options
@click.argument("a", shell_complete=complete_revision)
@click.argument("b", required=False, shell_complete=complete_revision)
@click.option("--stat", is_flag=True, help="Summarize by layer, with bars.")
@click.option("--optimizer", is_flag=True, help="Also compare the optimizer state.")
@click.option("--html", type=click.Path(dir_okay=False), help="Also write a page with a heat map.")
@click.option(
    "-n", "limit", type=click.IntRange(0), default=20, help="Show at most this many tensors (20)."
)
@json_option(
    {
        "before": "the first revision or file",
        "after": "the second revision or file",
        "facts": "the values that differ: `section` (hparams, param groups, metrics, environment, "
        "code), `name`, `before`, `after`",
        "components": "for two commits, by name: `equal`, `differs`, `added` or `removed`",
        "tensors": "by component, the most changed first: `name`, `status` (changed, reshaped, "
        "added, removed, equal), `before` and `after` (`dtype`, `shape`; or null), `relative` (the "
        "L2 norm of the change divided by that of the first tensor), `max_abs`, `cosine`, "
        "`fraction` (of the elements that changed), `not_finite_before`, `not_finite_after`; null "
        'if the figure is undefined, `"inf"` for a change from zero',
        "layers": "by component, in the model's order: `name`, `tensors`, `changed_tensors`, "
        "`elements`, `fraction`, `relative`, `max_abs`, `cosine` (the last three over the changed "
        "tensors only)",
    }
)
@click.pass_context
def command(
    ctx: click.Context,
    a: str,
    b: str | None,
    stat: bool,
    optimizer: bool,
    html: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show what changed from A to B (the latest commit).

    A and B are revisions, or .pt and .safetensors files; A..B means A B. The differences in
    hyperparameters, param-group options, metrics, environment and code come first. The tensors
    follow, the most changed first. Tensors with equal content are not read.

    \b
    Examples:
      gradient diff main@100 main@200
      gradient diff main high_lr --stat --html change.html
      gradient diff latest downloaded.safetensors
    """
    # Imported here because they need torch, and `--help` does not.
    from gradient.view.compare import COMPARED, compare
    from gradient.view.diff_html import page

    sides = _ends(a) if b is None else (a, b)
    before, after = (_side(ctx, each, optimizer=optimizer) for each in sides)
    components = COMPARED if optimizer else COMPARED[:1]
    total = sum(
        len({*before.tensors.get(name, {}), *after.tensors.get(name, {})}) for name in components
    )
    with output.progress("tensors", total) as advance:
        comparison = compare(before, after, optimizer=optimizer, progress=advance)
    if html is not None:
        fs.replace_file(fs.absolute(html), page(comparison).encode("utf-8"))
    if as_json:
        output.document(_document(comparison))
        return
    output.pages(_lines(comparison, stat=stat, limit=limit))
    if html is not None:
        output.line(f"\na page with a heat map: {html}")


def _ends(text: str) -> tuple[str, str]:
    """Return the two revisions of a single argument: a range's ends, or it and ``latest``."""
    from gradient.integrations.file_tensors import is_file_name

    if revision_grammar.is_range(text) and not is_file_name(text):
        return revision_grammar.range_ends(text)
    return text, "latest"


def _side(ctx: click.Context, text: str, *, optimizer: bool) -> Side:
    from gradient.integrations.file_tensors import SUFFIXES, is_file_name, open_side
    from gradient.repo.foreign_files import Mark, read_mark
    from gradient.view.compare import revision_side

    if is_file_name(text):
        mark = read_mark(text)
        if not isinstance(mark, Mark) or mark.kind == "full":
            return open_side(text)
        text = str(mark.commit)  # a thin file names its commit
    repo = find_repository(ctx)
    try:
        resolved = repo.resolve(text, branch=active_branch(repo))
    except UnknownRevisionError:
        if not text.endswith(SUFFIXES):
            raise
        raise NotFoundError(f"there is no file {text}") from None
    name = f"{resolved.revision} ({resolved.oid.short})"
    return revision_side(repo, resolved.oid, name, optimizer=optimizer)


def _lines(comparison: Comparison, *, stat: bool, limit: int) -> Iterator[str]:
    yield from _facts(comparison)
    for name, difference in comparison.tensors.items():
        yield from _summary(name, difference)
        yield from _layers(difference) if stat else _tensors(difference, limit)


def _facts(comparison: Comparison) -> Iterator[str]:
    yield f"{output.bold(comparison.before)} → {output.bold(comparison.after)}"
    section = None
    rows: list[tuple[str, ...]] = []
    for fact in comparison.facts:
        name = "" if fact.section == section else fact.section
        section = fact.section
        rows.append((name, fact.name, _cell(fact.before), "→", _cell(fact.after)))
    yield from output.aligned(rows, indent=2)
    others = [f"{name} {how}" for name, how in comparison.components.items() if how != "differs"]
    if others:
        yield output.dim(f"  components: {', '.join(others)}")


def _summary(name: str, difference: StateDiff) -> Iterator[str]:
    parts = [
        f"{difference.count(status):,} {status}"
        for status in ("changed", "reshaped", "added", "removed", "equal")
        if difference.count(status)
    ]
    total = output.plural(len(difference.tensors), "tensor")
    yield ""
    yield f"{output.bold(name)}: {total}: {', '.join(parts) or 'none'}"


def _tensors(difference: StateDiff, limit: int) -> Iterator[str]:
    changes = [each for each in difference.tensors if each.status != "equal"]
    rows: list[tuple[str, ...]] = []
    rows.append(("relative", "max abs", "cosine", "changed", "", "tensor", ""))
    rows += [
        (
            *_figures(each),
            f"{each.fraction:.1%}",
            _bar(each.relative, each.status),
            each.name,
            form(each) if each.retyped or each.status != "changed" else not_finite(each.sums),
        )
        for each in changes[:limit]
    ]
    if len(rows) > 1:
        yield from output.aligned(rows, indent=2)
    if len(changes) > limit:
        yield output.dim(f"  {more(len(changes) - limit)}; all of them: -n N")


def _layers(difference: StateDiff) -> Iterator[str]:
    layers = [each for each in difference.layers if each.changed_tensors]
    rows: list[tuple[str, ...]] = []
    rows.append(("relative", "max abs", "cosine", "changed", "", "layer", "tensors", ""))
    rows += [_layer_cells(each) for each in layers]
    if layers:
        yield from output.aligned(rows, indent=2)


def _layer_cells(layer: LayerChange) -> tuple[str, ...]:
    comparable = layer.sums.elements > 0
    status = "changed" if comparable else "reshaped"
    relative = layer.sums.relative if comparable else None
    figures = (relative, layer.sums.max_abs, layer.sums.cosine) if comparable else (None,) * 3
    return (
        *map(number, figures),
        f"{layer.fraction:.1%}",
        _bar(relative, status),
        layer.name,
        f"{layer.changed_tensors} of {layer.tensors}",
        not_finite(layer.sums),
    )


def _figures(change: TensorChange) -> tuple[str, str, str]:
    return number(change.relative), number(change.max_abs), number(change.cosine)


def _bar(relative: float | None, status: str) -> str:
    """Draw a bar on the logarithmic scale of the heat map."""
    if status != "changed":
        return status.ljust(_BAR)
    filled = round(heat(relative) * _BAR)
    return "█" * filled + "░" * (_BAR - filled)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if type(value) is float:
        return f"{value:.6g}"
    text = value if type(value) is str else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _document(comparison: Comparison) -> dict[str, Any]:
    return {
        "before": comparison.before,
        "after": comparison.after,
        "facts": [
            {
                "section": fact.section,
                "name": fact.name,
                "before": _json(fact.before),
                "after": _json(fact.after),
            }
            for fact in comparison.facts
        ],
        "components": dict(comparison.components),
        "tensors": {
            name: [_tensor(each) for each in difference.tensors]
            for name, difference in comparison.tensors.items()
        },
        "layers": {
            name: [_layer(each) for each in difference.layers]
            for name, difference in comparison.tensors.items()
        },
    }


def _tensor(change: TensorChange) -> dict[str, Any]:
    forms = [
        None if each is None else {"dtype": each.dtype, "shape": list(each.shape)}
        for each in (change.before, change.after)
    ]
    return {
        "name": change.name,
        "status": change.status,
        "before": forms[0],
        "after": forms[1],
        "relative": _json(change.relative),
        "max_abs": _json(change.max_abs),
        "cosine": _json(change.cosine),
        "fraction": change.fraction,
        "not_finite_before": change.sums.not_finite_before if change.sums else None,
        "not_finite_after": change.sums.not_finite_after if change.sums else None,
    }


def _layer(layer: LayerChange) -> dict[str, Any]:
    return {
        "name": layer.name,
        "tensors": layer.tensors,
        "changed_tensors": layer.changed_tensors,
        "elements": layer.elements,
        "fraction": layer.fraction,
        "relative": _json(layer.sums.relative),
        "max_abs": _json(layer.sums.max_abs),
        "cosine": _json(layer.sums.cosine),
    }


def _json(value: Any) -> Any:
    return str(value) if type(value) is float and not math.isfinite(value) else value
