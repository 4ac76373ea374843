"""What there is: relief list methods, variants, settings, views, datasets, metrics and so on.

Each kind gives rows of plain values, which are printed as a table or as JSON. What needs no torch
imports none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

import methods as registered
from harness.cli import described
from harness.cli.terminal import console, errors, room, show, table
from methods import names, plugins
from methods.errors import UserError
from methods.plugins import PluginError

OURS = "Relief"
ROOT = Path(__file__).parents[2]
Rows = list[dict[str, Any]]
SENTENCE = 20  # columns
LONG = ("signature",)  # columns of --json that no terminal has room for


def methods(name: str | None) -> Rows:
    found = []
    for own, where in registered.METHODS.items():
        module = ROOT / f"{where.partition(':')[0].replace('.', '/')}.py"
        says = described.first_line(module).rstrip(".")
        found.append(
            {"name": own, "printed": names.METHODS.get(own, own), "says": says, "from": OURS}
        )
    for offer in _outside():
        if not _unfit("methods", offer.name):
            cls = offer.load()  # its own words, not those of the class that it builds on
            says = cls.__doc__ or sys.modules[cls.__module__].__doc__ or ""
            says = says.strip().partition("\n")[0].rstrip(".")
            about = {"name": offer.name, "printed": offer.name, "says": says}
            found.append(about | {"from": str(offer)})
    return found


def _outside() -> list[plugins.Offer]:
    return [one for one in plugins.offers("methods") if one.name not in registered.METHODS]


def _methods() -> list[str]:
    """Ours, and those of plug-ins that can be used."""
    ours = list(registered.METHODS)
    return ours + [one.name for one in _outside() if not _unfit("methods", one.name)]


def _unfit(kind: str, name: str) -> str:
    """Why a method, view or reader of a plug-in cannot be used; "" if it can."""
    from harness.data.datasets import layout_of

    try:
        if kind == "methods":
            registered.get(name)
        elif kind == "views":
            from harness.data.views.registry import view_named  # it imports what makes views

            view_named(name)
        else:
            layout_of(name)
    except PluginError as error:
        return str(error)
    return ""


def variants(name: str | None) -> Rows:
    return [
        {
            "name": f"{method}/{variant}",
            "changes": ", ".join(f"{k}={v}" for k, v in changes.items()),
        }
        for method in ([name] if name else _methods())
        for variant, changes in registered.declared(method).variants.items()
    ]


def settings(name: str | None) -> Rows:
    if not name:
        raise UserError(f"settings of which method? known: {', '.join(registered.known())}")
    rows = described.leaves(registered.declared(name).Settings())
    return [row | {"key": f"{name}.{row['key']}"} for row in rows]


def views(name: str | None) -> Rows:
    from harness.data.views.recipes import ARRAYS, RECIPES

    outside = {offer.name: offer for offer in plugins.offers("views")}
    rows = []
    able = (view for view in outside if not _unfit("views", view))
    for view in [name] if name else [*RECIPES, *able]:
        if own := RECIPES.get(view):
            arrays, where = ARRAYS[own], OURS
        else:
            from harness.data.views.registry import view_named  # it imports what makes views

            arrays, where = view_named(view).arrays, str(outside[view])
        for array in arrays:
            values = {"view": view, "array": array.name, "type": array.dtype}
            values |= {"shape": array.shape, "unit": array.unit, "says": array.content}
            rows.append(values | {"from": where})
    return rows


def datasets(name: str | None) -> Rows:
    from dataclasses import fields

    from harness.data.datasets import KINDS, kinds, layout_of, offered

    rows = []
    for kind in [kind for kind in kinds() if kind in KINDS or not _unfit("datasets", kind)]:
        layout = layout_of(kind)
        options = ", ".join(f"{f.name}={f.default}" for f in fields(layout.Options))
        where = OURS if kind in KINDS else str(offered(kind))
        published = len(layout.CATEGORIES) if kind != "folder" else 0
        about = {"kind": kind, "layout": layout.LAYOUT, "options": options}
        rows.append(about | {"published": f"{published} categories", "from": where})
    return rows


def metrics(name: str | None) -> Rows:
    from harness.metrics import known_metrics

    outside = {offer.name: str(offer) for offer in plugins.offers("metrics")}
    return [
        {
            "name": metric.name,
            "label": metric.label,
            "better": "smaller" if metric.smaller_is_better else "larger",
            "unit": metric.unit,
            "needs": metric.needs,
            "signature": metric.signature("*"),
            "from": outside.get(metric.name, OURS),
        }
        for metric in known_metrics()
    ]


def sweeps(name: str | None) -> Rows:
    return _shipped("sweeps")


def studies(name: str | None) -> Rows:
    return _shipped("studies")


def _shipped(kind: Any) -> Rows:
    from harness.planning import config

    return [
        {"name": name, "says": described.opening_comment(config.find(name, kind))}
        for name in config.shipped(kind)
    ]


def weights(name: str | None) -> Rows:
    """The published files as `relief weights list` has them, then settings that take any other."""
    from harness.cli.weights import files

    shown = ("setting", "file", "purpose", "found", "damaged")
    rows = [
        {column: one[column] for column in shown}
        for one in files()
        if name in (None, one["setting"].partition(".")[0])
    ]
    known = {row["setting"] for row in rows}
    for method in [name] if name else _methods():
        for row in described.leaves(registered.declared(method).Settings()):
            text = "str" in row["type"]  # of a path
            if text and {"weights", "pretrained"} & set(row["key"].split(".")):
                about = dict.fromkeys(shown, "") | {"setting": f"{method}.{row['key']}"}
                rows += [about | {"purpose": row["says"]}] if about["setting"] not in known else []
    return rows


LISTS: dict[str, Callable[[str | None], Rows]] = {
    "methods": methods,
    "variants": variants,
    "settings": settings,
    "views": views,
    "datasets": datasets,
    "metrics": metrics,
    "sweeps": sweeps,
    "studies": studies,
    "weights": weights,
}


def list_(
    what: Annotated[
        Optional[str], typer.Argument(metavar="[WHAT]", help=f"One of {', '.join(LISTS)}.")
    ] = None,
    name: Annotated[
        Optional[str], typer.Argument(help="Of one method (variants, settings, weights) or view.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what there is, with units and sources: ours, and what plug-ins have.

    Plug-ins that cannot be loaded come last, with the reason.
    """
    if what is not None and what not in LISTS:
        raise UserError(f"no list of {what!r}; known: {', '.join(LISTS)}")
    if what is None:
        found = {"methods": methods(None), "kinds": [{"list": kind} for kind in LISTS]}
    else:
        found = {what: LISTS[what](name)}
    broken = [
        {"plug-in": one.source, "why": one.why}
        for one in [*plugins.broken(), *registered.shadowed()]
    ]
    named = {one.source for one in plugins.broken() if one.part is None}
    for offer in (*_outside(), *plugins.offers("views"), *plugins.offers("datasets")):
        if any(offer.source in name for name in named):
            continue
        if why := _unfit(offer.kind, offer.name):
            broken.append({"plug-in": str(offer), "why": why})
    if as_json:
        print(json.dumps(found | {"broken": broken}, indent=1, ensure_ascii=False))
        return
    for title, rows in found.items():
        _show(title, rows)
    for one in broken:
        text = f"broken: {one['plug-in']}: {one['why']}"
        errors.print(f"[red]{escape(text)}[/red]", soft_wrap=True)


def _show(title: str, rows: Rows) -> None:
    """A table, or rows as paragraphs where it would be too narrow for its words."""
    columns = [column for column in (rows[0] if rows else ()) if column not in LONG]
    if all(row.get("from") == OURS for row in rows):
        columns = [column for column in columns if column != "from"]
    texts = [[str(row[column]) for column in columns] for row in rows]
    least = [_least(column) for column in zip(columns, *texts)]
    if sum(least) + 2 * len(least) > room():
        console.print(f"[italic]{title}[/italic]")
        for first, *others in texts:
            console.print(f"[bold]{escape(first)}[/bold]", soft_wrap=True)
            show(_paragraph(columns[1:], others))
        return
    made = table(title=title)
    for column, width in zip(columns, least):
        made.add_column(column, overflow="fold", min_width=width)
    for row in texts:
        made.add_row(*map(escape, row))
    show(made)


def _paragraph(columns: list[str], texts: list[str]) -> Table:
    """What there is of a row, a line each."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for column, text in zip(columns, texts):
        if text:
            made.add_row(f"  {column}", escape(text))
    return made


def _least(texts: Sequence[str]) -> int:
    """How wide a column must be: no word is broken, and sentences have room for a few."""
    words = max(cell_len(word) for text in texts for word in (text.split() or [""]))
    return max(words, min(SENTENCE, max(map(cell_len, texts))))
