"""The commands that read stores: relief report, compare, export."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from filelock import Timeout
from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from harness.cli import unchanged
from harness.cli.errors import describe
from harness.cli.launch import DEFAULT_STORE, StorePath
from harness.cli.terminal import console, errors
from harness.store import COMMON, PROTOCOLS, Record, Results, Store
from harness.store.secrets import masked
from methods.errors import UserError

if TYPE_CHECKING:
    from reports.numbers.stores import Checked

EXIT_DAMAGED, EXIT_REGRESSION = 1, 3

Launches = Annotated[
    Optional[list[str]],
    typer.Option(
        "--launch",
        help="Launch id or its beginning (default: each store's latest); repeat for several.",
    ),
]
Filters = Optional[list[str]]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def report(
    stores: Annotated[
        Optional[list[Path]],
        typer.Argument(metavar="[STORE]...", help="Folders of results (default: --store)."),
    ] = None,
    store: StorePath = DEFAULT_STORE,
    launch: Launches = None,
    out: Annotated[
        Optional[Path],
        typer.Option(help="Folder to write (default: in the store; of several, relief-report)."),
    ] = None,
    images: Annotated[
        Optional[list[str]],
        typer.Option(
            help="Test images to show: middle (default), best, median, worst, disagree, "
            "or an id as test/hole/003; repeat for several."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the leaderboard of one or several stores, from their files alone.

    That of one launch is printed as it stands where its results are as they were.
    """
    if stores:
        _check_stores(stores)
    places = [Store(path) for path in stores or [store]]
    parts = [
        (place, place.launch(name))
        for place in places
        for name in _named(place, launch, alone=len(places) == 1)
    ]
    for place, one in parts:
        join_plugins(one, place)
    if len(parts) == 1 and not (out or images or as_json):
        if found := _renew(*parts[0]):
            exit_if_damaged(found)
        return
    from reports.numbers.stores import Checked, gather

    store_of, wanted = gather(parts)
    found = Checked(store_of)
    if out is None and len(parts) == 1:
        out = _folder(*parts[0])
    folder = out or Path("relief-report")
    if as_json:
        _print_report(found, wanted, folder.resolve(), images)
    else:
        write(found, wanted, folder, images)
    exit_if_damaged(found)


def _print_report(store: Checked, launch: dict, folder: Path, images: list[str] | None) -> None:
    """Write the report and print as JSON what it has (harness/cli/README.md, section 4)."""
    import pandas as pd

    from reports.numbers.choice import MIDDLE
    from reports.numbers.frame import read_results, unscored_lines
    from reports.page.render import write_report

    page = write_report(store, launch, folder, images or [MIDDLE])
    results = read_results(store, launch)
    status = Counter(
        r.status if (r := results.get(c["key"])) else "pending" for c in launch["cells"]
    )
    rows = pd.read_parquet(page.parent / "leaderboard.parquet").to_json(orient="records")
    about = {"launch": launch["id"], "name": launch["name"], "page": str(page)}
    about |= {"cells": dict(status), "told": unscored_lines(launch, results)}
    print(json.dumps(about | {"leaderboard": json.loads(rows or "[]")}, indent=1))


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Store of the reference.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Store to judge; may be the same.")],
    only_a: Annotated[
        Filters, typer.Option("--a", metavar="NAME=VALUE", help="Cells of A, e.g. setting=rgb.")
    ] = None,
    only_b: Annotated[
        Filters, typer.Option("--b", metavar="NAME=VALUE", help="Cells of B, e.g. setting=rgb+3d.")
    ] = None,
    launch_a: Annotated[Optional[str], typer.Option(help="Launch of A (default: latest).")] = None,
    launch_b: Annotated[Optional[str], typer.Option(help="Launch of B (default: latest).")] = None,
    metric: Annotated[
        Optional[list[str]], typer.Option(help="Default: i_auroc, aupro_0.3, p_auroc.")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="common (at the sensor's pixels), paper (at each method's own), or common@PIXELS."
        ),
    ] = COMMON,
    margin: Annotated[
        float, typer.Option(min=0, help="Smallest loss that counts, in percentage points.")
    ] = 0.0,
    fail_on_regression: Annotated[
        bool,
        typer.Option("--fail-on-regression", help="Exit with 3 if B is worse or lost a result."),
    ] = False,
    csv: Annotated[Optional[Path], typer.Option(help="Write the table to this file, too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two stores, commits or settings cell by cell, with intervals and tests."""
    from harness.metrics import headlines
    from harness.store import write_text
    from reports.forms.compare_text import (
        comparison_csv,
        comparison_plain,
        comparison_text,
    )
    from reports.numbers.compare import chosen
    from reports.numbers.compare import compare as compare_frames
    from reports.numbers.evidence import read_evidence
    from reports.numbers.frame import (
        IDENTITY,
        metric_names,
        read_results,
        results_frame,
        unscored_lines,
    )
    from reports.numbers.names import protocol_label
    from reports.numbers.stores import Checked

    if protocol.split("@")[0] not in PROTOCOLS:
        known = f"{', '.join(PROTOCOLS)}, {COMMON}@PIXELS"
        raise UserError(f"unknown protocol {protocol!r}; known: {known}")
    for path in (a, b):
        if not path.is_dir():
            raise UserError(
                f"{path} is no folder: compare takes two stores, or one twice with other launches "
                "(--launch-a, --launch-b) or cells (--a, --b)"
            )
    filters = [_pairs(only_a, "--a"), _pairs(only_b, "--b")]
    frames, evidence, damaged = [], [], []
    for path, launch, choice in zip((a, b), (launch_a, launch_b), filters):
        of_path = Store(path)
        store = Checked(of_path)
        found = of_path.launch(launch)
        join_plugins(found, of_path)
        results = read_results(store, found)
        frame = chosen(results_frame(store, found, results, protocol), choice)
        frames.append(frame)
        for line in unscored_lines(found, results):
            errors.print(f"[yellow]{escape(f'{path}: {line}')}[/yellow]", soft_wrap=True)
        evidence.append(read_evidence(store, frame))
        damaged += store.damaged.values()
    known = set(metric_names(frames[0])) & set(metric_names(frames[1]))
    metrics = metric or [name for name in headlines() if name in known]
    if unknown := set(metrics) - known:
        raise UserError(
            f"no metric {', '.join(sorted(unknown))} on both sides; "
            f"there are {', '.join(sorted(known)) or 'none'}"
        )
    ignore = tuple(name for name in IDENTITY if name in filters[0] or name in filters[1])
    found = compare_frames(
        frames[0], frames[1], metrics, *evidence, ignore=ignore, margin=margin / 100
    )
    if as_json:
        print(json.dumps(comparison_plain(found, protocol), indent=1))
    else:
        console.print(f"{protocol_label(protocol).capitalize()}.")
        console.print(comparison_text(found))
    threads = [sorted({int(t) for t in frame["threads"].dropna()}) for frame in frames]
    if threads[0] != threads[1] and not as_json:
        a_threads, b_threads = (", ".join(map(str, part)) or "unknown" for part in threads)
        console.print(
            f"Threads: A {a_threads}, B {b_threads}; their sums round otherwise, so equal settings "
            "agree as seeds do and not as bits."
        )
    if csv is not None:
        write_text(csv, comparison_csv(found))
    _tell_damaged(damaged)
    if fail_on_regression and (found.regressions or found.lost):
        raise typer.Exit(EXIT_REGRESSION)
    if damaged:
        raise typer.Exit(EXIT_DAMAGED)


def export(
    out: Annotated[Path, typer.Argument(help="Folder to write, one subfolder a method.")],
    store: StorePath = DEFAULT_STORE,
    launch: Annotated[
        Optional[str], typer.Option(help="Launch id or its beginning (default: the latest).")
    ] = None,
    truth: Annotated[
        bool, typer.Option("--truth", help="Write the ground truth at the maps' size beside them.")
    ] = False,
    size: Annotated[
        str,
        typer.Option(
            help="Of the maps: protocol (as evaluated) or original (as the dataset's "
            "files, which the tool compares with)."
        ),
    ] = "protocol",
) -> None:
    """Write the anomaly maps as TIFF files, in the layout of the MVTec 3D-AD evaluation tool."""
    from reports.forms.export import export_maps
    from reports.numbers.stores import Checked

    where = Store(store)
    found = Checked(where)
    done = export_maps(found, where.launch(launch), out, truth, size)
    for line in done.lines():
        console.print(escape(line), soft_wrap=True)
    exit_if_damaged(found)


def cleared(store: Store, found: Checked | None) -> list[str]:
    """Set aside what a report found damaged, for the next run to heal; -> a line for each."""
    lines = []
    for key, record in found.damaged.items() if found else ():
        try:
            with store.lock(key, timeout=0):
                why = store.damage(key, contents=True)
                if why is not None:
                    store.set_aside(key, why)
            again = "set aside, `relief run` of its launch computes it again"
            lines.append(f"{why}: {again}" if why else "")
        except Timeout:  # somebody computes it again just now
            lines.append(record.reason)
    return [line for line in lines if line]


def exit_if_damaged(store: Checked) -> None:
    """Exit code 1 and a line for each file if what was read is not what its job wrote."""
    _tell_damaged(store.damaged.values())
    if store.damaged:
        raise typer.Exit(EXIT_DAMAGED)


def _tell_damaged(damaged: Iterable[Record]) -> None:
    for record in damaged:
        errors.print(f"[red]damaged[/red]: {escape(record.reason)}", soft_wrap=True)


def write(
    store: Results, launch: dict, folder: Path, images: list[str] | None = None
) -> list[RenderableType]:
    """The report's files, and the leaderboard on the terminal; -> what was printed."""
    from reports.numbers.choice import MIDDLE
    from reports.page.render import leaderboard_text, write_report

    page = write_report(store, launch, folder.resolve(), images or [MIDDLE])
    shown: list[RenderableType] = [leaderboard_text(store, launch)]
    shown.append(f"Leaderboard {escape(page.as_uri())}")
    if launch.get("study"):
        from reports.page.studies import study_table, write_study

        study, lines = write_study(store, launch, folder.resolve())
        shown += [study_table(launch, lines), f"Study       {escape(study.as_uri())}"]
    for one in shown:
        console.print(one, soft_wrap=isinstance(one, str))
    return shown


def conclude(store: Store, launch: dict, tracking: str | None) -> Checked | None:
    """The leaderboard on the terminal, in files and in MLflow; as `_renew`."""
    found = _renew(store, launch)
    if tracking != "none":
        _track(store, launch, tracking, _folder(store, launch))
    return found


def _renew(store: Store, launch: dict) -> Checked | None:
    """The leaderboard on the terminal and in files; -> what was read of the store.

    None if nothing had to be read: the report stands, and says what it said.
    """
    folder, state = _folder(store, launch), unchanged.state_of(store, launch)
    if (text := unchanged.told(folder, state)) is not None:
        console.print(Text.from_ansi(text), soft_wrap=True)
        return None
    from reports.numbers.stores import Checked

    found = Checked(store)
    shown = write(found, launch, folder)
    if not found.damaged:
        unchanged.keep(folder, state, shown, console.width)
    return found


def _folder(store: Store, launch: dict) -> Path:
    return store.path / "reports" / launch["id"]


def join_plugins(launch: dict, store: Store) -> None:
    """Register the metrics of the plug-ins that it was started with."""
    if (launch.get("config") or {}).get("plugins"):
        from harness.metrics.outside import join_of

        join_of(launch, store.path)


def _track(store: Store, launch: dict, tracking: str | None, folder: Path) -> None:
    try:
        from harness import tracking as mlflow_view

        synced = mlflow_view.sync(store, launch, tracking, folder, wait_of(launch))
    except Exception as error:  # results are safe in the store whatever the tracking server does
        behind(error)
        return
    if tracking is None:
        where = "" if store.path == DEFAULT_STORE.resolve() else f" --store {store.path}"
        console.print(
            f"MLflow      relief ui{escape(where)}, then "
            f"{mlflow_view.address(synced.experiment_id, launch['id'])}",
            soft_wrap=True,
        )
    else:
        console.print(
            f"MLflow      {escape(masked(tracking))}, experiment {synced.experiment_id}",
            soft_wrap=True,
        )


def wait_of(launch: dict) -> float:
    """Seconds to wait at most for another writer of MLflow; 60 for launches of before."""
    return launch["config"].get("schedule", {}).get("mlflow_wait_s", 60.0)


def behind(error: Exception) -> None:
    """Say that MLflow was not written, and why."""
    errors.print(
        f"[yellow]MLflow is not up to date[/yellow]: {escape(describe(error).text)}\n"
        "Results are in the store; `relief sync` catches up later.",
        soft_wrap=True,
    )


def _check_stores(paths: list[Path]) -> None:
    """Raise UserError for what is no folder: a launch, perhaps, in the place of a store."""
    there = [path for path in paths if path.is_dir()]
    for path in paths:
        if not path.is_dir():
            where = "".join(f" {store}" for store in there)
            raise UserError(
                f"{path} is no folder, and report takes stores: of one launch it is "
                f"`relief report{where} --launch {path.name}`"
            )


def _named(store: Store, launches: list[str] | None, alone: bool) -> list[str | None]:
    """Which of the launches asked for are in this store; its latest where none was asked for."""
    if not launches:
        return [None]
    if alone:
        return list(launches)
    known = {launch["id"] for launch in store.launches()}
    return [name for name in launches if name in known] or [None]


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    found = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{option} {text!r} is not NAME=VALUE, e.g. {option} setting=rgb")
        found[name] = value
    return found
