"""The command that times methods on this machine: relief bench."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape

from harness.cli.launch import DEFAULT_STORE, Background, Data, StorePath, Tracking
from harness.cli.terminal import console, errors, show, table
from methods.declaration import SETTINGS
from methods.errors import UserError
from methods.names import BASELINE

if TYPE_CHECKING:
    import torch

    from harness.engine.bench import Extent, Found

EXIT_FAILED = 1
MADE = ("size", "steps", "train", "batch", "seconds", "tf32", "tflops", "markdown")
# Parameters that only made samples have, or only finished cells -> their options.
OF_MADE = {name: f"--{name}" for name in MADE} | {"modality": "--setting"}
OF_CELLS = {name: f"--{name}" for name in ("shared", "anew", "data", "background", "tracking")}
TRAINED = ("method", "trained", "steps/s", "waits for data", "fit s", "peak GB")
PREDICTED = ("startup s", "GMAC", "of peak", "peak GB", "published images/s")


def bench(
    context: typer.Context,
    what: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="[METHOD]... [KEY=VALUE]...",
            help="Methods or METHOD/VARIANT (default: the five, or all of --cells), then settings "
            "to change, e.g. das3d.train.batch=4.",
        ),
    ] = None,
    cells: Annotated[
        Optional[str],
        typer.Option(
            metavar="LAUNCH|CONFIG",
            help="Time the finished cells of a launch (or of a configuration, as `run` takes it) "
            "again by their kept models, and write its report anew.",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Settings to start from: published (each method's own) or demo.")
    ] = "published",
    modality: Annotated[str, typer.Option("--setting", help="rgb, 3d or rgb+3d.")] = "rgb+3d",
    device: Annotated[
        Optional[str], typer.Option(help="cpu or cuda (default: the GPU, if torch can use one).")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps of each training.")] = 12,
    train: Annotated[
        int, typer.Option(min=2, help="Training samples; memory banks grow with them.")
    ] = 8,
    batch: Annotated[
        Optional[list[int]],
        typer.Option(min=1, help="Samples predicted at once; may be repeated (default: 8 and 32)."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Each prediction is repeated for so long, twice at least")
    ] = 2.0,
    tf32: Annotated[
        bool, typer.Option("--tf32", help="As numerics.tf32=true: products with fewer bits.")
    ] = False,
    tflops: Annotated[
        Optional[float],
        typer.Option(min=0.0, help="The device's peak (default: what convolutions get here)."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables to paste.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="With --cells: also while others use the device; marked so."),
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="With --cells: also those that were timed alone already.")
    ] = False,
    store: StorePath = DEFAULT_STORE,
    data: Data = None,
    background: Background = None,
    tracking: Tracking = None,
) -> None:
    """Time methods on this machine: training, prediction, memory, with random weights.

    Samples are made, trainings take a few steps, so there are no scores. Exits with 1 if one fails.
    With --cells: finished cells, by their own models and test samples.
    """
    _check_options(context, cells)
    if cells is not None:
        from harness.cli.timing import time_cells

        here = _device(device)
        time_cells(
            store, cells, what or [], data, background, here, shared, anew, tracking, as_json
        )
        return
    from harness.engine import numerics
    from harness.engine.bench import Extent

    if modality not in SETTINGS:
        raise UserError(f"unknown setting {modality!r}; known: {', '.join(SETTINGS)}")
    names, overrides = _asked(what or [])
    chosen = [(name, _settings(name, size, overrides, steps)) for name in names]
    where = _device(device)
    numerics.settle({"tf32": tf32})
    extent = Extent(steps, train, tuple(batch or (8, 32)), seconds)
    peak = tflops * 1e12 if tflops else _measured_peak(where)
    found: list[Found] = []
    failed: dict[str, str] = {}
    for name, settings in chosen:
        if not as_json:
            errors.print(f"{escape(name)} ...", soft_wrap=True)
        _one(name, settings, modality, where, extent, found, failed)
    head = _head(where, size, modality, extent, peak, tflops is not None)
    if as_json:
        print(json.dumps(_plain(where, head, peak, found, failed), indent=1))
    elif markdown:
        print(markdown_text(head, found, peak, failed))
    else:
        _print(head, found, peak, failed)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _check_options(context: typer.Context, cells: str | None) -> None:
    """Refuse what only made samples have, or only finished cells."""
    here, other = (OF_MADE, "with --cells") if cells is not None else (OF_CELLS, "without --cells")
    for name, option in here.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UserError(f"{option} says nothing {other}: leave it out")


def _asked(what: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of methods and the settings to change, each of one of them."""
    import methods

    published = [name for name in methods.METHODS if name != BASELINE]
    names = [item for item in what if "=" not in item] or published
    overrides = [item for item in what if "=" in item]
    bare = {name.partition("/")[0] for name in names}
    for name in bare:
        methods.declared(name)
    if others := [item for item in overrides if item.partition(".")[0] not in bare]:
        raise UserError(f"{', '.join(others)}: no setting of {', '.join(sorted(bare))}")
    return names, overrides


def _settings(name: str, size: str, overrides: Sequence[str], steps: int) -> Any:
    """Settings of METHOD or METHOD/VARIANT of that size that need no files, then as asked."""
    from harness.engine.bench import SIZES, ready
    from harness.planning import config

    method, _, variant = name.partition("/")
    if size not in SIZES:
        raise UserError(f"unknown size {size!r}; known: {', '.join(SIZES)}")
    small = config.load("demo", [f"methods=[{name}]", "settings=[rgb,3d,rgb+3d]"])
    start = small.options[method] if size == "demo" else config.settings_of(method)
    for part in filter(None, variant.split("+")):
        start = config.with_overrides(start, small.variants_of(method)[part], name)
    start = config.with_overrides(start, ready(method, steps), name)
    own = [item for item in overrides if item.partition(".")[0] == method]
    return config.settings_of(method, own, start)


def _device(asked: str | None) -> torch.device:
    import torch

    there = torch.cuda.is_available()
    if asked not in (None, "cpu", "cuda") or (asked == "cuda" and not there):
        raise UserError(f"--device is {asked}: give cpu, or cuda where torch can use a GPU")
    chosen = torch.device(asked or ("cuda" if there else "cpu"))
    if chosen.type == "cuda":
        torch.cuda.init()  # its memory is asked for before anything computes
    return chosen


def _measured_peak(device: torch.device) -> float:
    """FLOP/s of convolutions; on the CPU of as many cores as torch computes with."""
    import torch

    from methods.calibrate import measured

    cores = torch.get_num_threads() if device.type == "cpu" else 1
    return measured(device.type).flops_s * cores


def _one(
    name: str,
    settings: Any,
    modality: str,
    device: torch.device,
    extent: Extent,
    found: list[Found],
    failed: dict[str, str],
) -> None:
    """Add what is found of a method, or why there is nothing: the others go on."""
    from harness.engine.bench import bench as measure
    from harness.engine.interrupts import interruptible
    from harness.engine.outcomes import one_line

    with tempfile.TemporaryDirectory(prefix="relief-bench-") as folder, interruptible():
        try:
            found.append(measure(name, settings, modality, device, extent, Path(folder)))
        except Exception as error:  # whatever a method may raise
            failed[name] = one_line(error)


def _head(
    device: torch.device, size: str, modality: str, extent: Extent, peak: float, given: bool
) -> list[str]:
    """Lines that say what was measured on what."""
    from harness.engine.environment import environment

    here = environment(device)
    if device.type == "cuda":
        kind = "TF32" if here["tf32"] else "float32, no TF32"
        card = f"{here['device']}, driver {here['driver']}, CUDA {here['cuda']}, {kind}"
    else:
        card = f"the CPU ({here['processor']}, {here['threads']} threads), float32; no GPU was used"
    torch = here["versions"]["torch"]
    return [
        f"{card}; torch {torch}; code {here['commit'] or here['code']}",
        f"{size} settings, {modality}, random weights, made data: {extent.train} training samples, "
        f"trainings of {extent.steps} steps; {'given' if given else 'measured'} peak "
        f"{peak / 1e12:.3g} TFLOP/s",
    ]


def trained_rows(found: Sequence[Found]) -> list[tuple[str, ...]]:
    """A row a phase of training, and one for each fit without steps, under TRAINED."""
    rows: list[tuple[str, ...]] = []
    for one in found:
        for fit in one.fits:
            took = f"{fit.seconds:.3g}", _gigabytes(fit.peak_bytes)
            for t in fit.trainings:
                name = " ".join(filter(None, (fit.name, t.phase)))
                rows.append((one.method, name, f"{t.steps_s:.3g}", f"{t.waiting:.1%}", *took))
            if not fit.trainings:
                rows.append((one.method, fit.name or "fit", "", "", *took))
    return rows


def predicted_head(found: Sequence[Found]) -> tuple[str, ...]:
    sizes = [t.batch for t in found[0].throughput[1:]] if found else []
    return ("method", "ms an image", *(f"images/s by {size}" for size in sizes), *PREDICTED)


def predicted_rows(found: Sequence[Found], peak: float) -> list[tuple[str, ...]]:
    """A row a method under `predicted_head`."""
    return [
        (
            one.method,
            f"{1000 * one.latency_s:.3g}" if one.latency_s else "no memory",
            *(
                "no memory" if t.images_s is None else f"{t.images_s:.3g}"
                for t in one.throughput[1:]
            ),
            f"{one.startup_s:.2g}" if one.startup_s else "",
            f"{one.macs / 1e9:.3g}" if one.macs else "",
            f"{share:.1%}" if (share := one.of_peak(peak)) else "",
            _gigabytes(one.throughput[0].peak_bytes if one.throughput else None),
            "; ".join(published_fps(one.method, one.setting)),
        )
        for one in found
    ]


def published_fps(name: str, setting: str) -> list[str]:
    """What papers print of a method or variant, with the hardware that they name."""
    from reports.numbers.published import published

    method, _, variant = name.partition("/")
    rows = published()
    rows = rows[
        (rows["metric"] == "fps")
        & (rows["method_key"] == method)
        & (rows["variant"] == variant)
        & (rows["setting"] == setting)
    ]
    return [f"{row.value:g} ({row.hardware})" for row in rows.itertuples()]


def markdown_text(
    head: Sequence[str], found: Sequence[Found], peak: float, failed: dict[str, str]
) -> str:
    """Both tables and their head, to paste."""
    from reports.forms.text import markdown_table

    tables = [
        "\n".join(markdown_table(TRAINED, trained_rows(found))),
        "\n".join(markdown_table(predicted_head(found), predicted_rows(found, peak))),
    ]
    lines = [f"{name} failed: {why}" for name, why in failed.items()]
    return "\n\n".join(["; ".join(head), *(tables if found else []), *lines])


def _print(
    head: Sequence[str], found: Sequence[Found], peak: float, failed: dict[str, str]
) -> None:
    for line in head:
        console.print(escape(line), soft_wrap=True)
    for names, rows in (
        (TRAINED, trained_rows(found)),
        (predicted_head(found), predicted_rows(found, peak)),
    ):
        made = table(*names, numbers=tuple(set(names) - {"method", "trained", PREDICTED[-1]}))
        for row in rows:
            made.add_row(*map(escape, row))
        if rows:
            show(made)
    for name, why in failed.items():
        errors.print(f"[red]{escape(name)} failed[/red]: {escape(why)}", soft_wrap=True)


def _plain(
    device: torch.device,
    head: Sequence[str],
    peak: float,
    found: Sequence[Found],
    failed: dict[str, str],
) -> dict[str, Any]:
    from harness.engine.environment import environment

    rows = [
        asdict(one)
        | {"of_peak": one.of_peak(peak), "published": published_fps(one.method, one.setting)}
        for one in found
    ]
    return {
        "machine": environment(device),
        "about": list(head),
        "peak_flops_s": peak,
        "methods": rows,
        "failed": failed,
    }


def _gigabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e9:.2f}"
