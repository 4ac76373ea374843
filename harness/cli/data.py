"""The commands about data: relief data check, make synthetic, show."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from harness.cli.terminal import console
from methods.errors import UserError

app = typer.Typer(
    name="data", help="Check datasets, look at, import, make them.", no_args_is_help=True
)
make = typer.Typer(name="make", help="Make a dataset.", no_args_is_help=True)
app.add_typer(make)

EXIT_FAULTY_DATA = 1
SHOWN = 200  # kinds of problems on the screen; the JSON file has all
NAMED = 5  # files of which the same is said
STDOUT = Path("-")

Root = Annotated[str, typer.Argument(help="Folder that holds the categories.")]
Kind = Annotated[
    str, typer.Option(help="mvtec3d, folder, eyecandies, or auto for what it looks like.")
]
Options = Annotated[
    Optional[list[str]],
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="How files are read, e.g. nonfinite=missing, scale=0.001, light=4.",
    ),
]
Categories = Annotated[
    Optional[list[str]], typer.Option("--category", help="Only this; may be repeated.")
]
Workers = Annotated[Optional[int], typer.Option(min=1, help="CPUs to use (default: all).")]
Background = Annotated[
    str,
    typer.Option(
        help="How the object is told from the rest: auto, plane, published, mask or none "
        "(harness/data/README.md, section 4)."
    ),
]


@app.command()
def check(
    root: Root,
    kind: Kind = "auto",
    option: Options = None,
    quick: Annotated[bool, typer.Option("--quick", help="Open some files of each folder.")] = False,
    json_file: Annotated[
        Optional[Path],
        typer.Option("--json", help="Write everything found to this file; - prints it alone."),
    ] = None,
    fix: Annotated[
        Optional[Path],
        typer.Option(
            help="Write a mended copy into this new folder: names, orientation, masks to 0 and "
            "255. The original stays as it is."
        ),
    ] = None,
    workers: Workers = None,
) -> None:
    """Open every file of a dataset and list what is wrong, odd or unlike the published release."""
    from harness.data.check import check as check_data

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # the table has its complaints
    if fix:
        root = _mended(Path(root).expanduser(), fix, quiet=json_file == STDOUT)
    dataset, quiet = _open(kind, root, option), json_file == STDOUT
    if not quiet:
        console.print(f"{escape(str(dataset.root))}: {dataset.kind}", soft_wrap=True)
    with _progress("open") as report:
        found = check_data(dataset, quick, workers or os.cpu_count() or 1, report)
    text = json.dumps(found.plain(), indent=1) + "\n"
    if quiet:
        print(text, end="")
    else:
        if json_file:
            json_file.write_text(text, encoding="utf-8")
        _print_report(found)
    if found.errors:
        raise typer.Exit(EXIT_FAULTY_DATA)


def _mended(root: Path, out: Path, quiet: bool) -> str:
    """The folder of the copy, which is then checked."""
    from harness.data.fix import fix

    with _progress("copy") as report:
        done = fix(root, out, report)
    for one in done if not quiet else ():
        console.print(escape(f"{one.file}: {one.what}"), soft_wrap=True)
    return str(out)


def _print_report(found) -> None:
    """Nothing is cut, however narrow the terminal: names of files are for copying."""
    console.print(_counts(found))
    for category, choice in found.backgrounds.items():
        line = f"{category}: background=auto takes {choice['chosen']}: {choice['why']}"
        console.print(escape(line), soft_wrap=True)
    groups = found.groups()
    for problem, *others in groups[:SHOWN]:
        colour = "red" if problem.severity == "error" else "yellow"
        todo = problem.todo.replace("ROOT", str(found.root))
        file, what = problem.file, problem.problem.removeprefix(f"{problem.file}: ")
        line = f"[{colour}]{problem.severity}[/{colour}] {escape(file)}: {escape(what)}"
        console.print(line, soft_wrap=True)
        console.print(f"  -> {escape(todo)}", soft_wrap=True)
        if others:
            names = ", ".join(other.file for other in others[:NAMED])
            rest = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
            console.print(f"  the same of {escape(names)}{rest}", soft_wrap=True)
    if sum(map(len, groups)) > min(len(groups), SHOWN):
        console.print("--json FILE writes every finding in full")
    opened = f"{found.opened} samples opened" + (" (--quick: a part)" if found.quick else "")
    console.print(f"{opened}, errors: {found.errors}, warnings: {found.warnings}")


@make.command()
def synthetic(
    folder: Annotated[Path, typer.Argument(help="Folder to put the categories in.")],
    preset: Annotated[str, typer.Option(help="tiny, small, standard or paper.")] = "small",
    layout: Annotated[str, typer.Option(help="mvtec3d or eyecandies.")] = "mvtec3d",
    category: Categories = None,
    size: Annotated[Optional[int], typer.Option(help="Width and height in px.")] = None,
    train: Annotated[Optional[int], typer.Option(help="Training samples a category.")] = None,
    validation: Annotated[Optional[int], typer.Option(help="Validation samples.")] = None,
    good: Annotated[Optional[int], typer.Option(help="Normal test samples.")] = None,
    per_defect: Annotated[Optional[int], typer.Option(help="Test samples a defect.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other samples.")] = 0,
    workers: Workers = None,
) -> None:
    """Make computed RGB-D samples with defects; the same options give the same bytes."""
    from harness.data.synthetic import PRESETS
    from harness.data.synthetic.generate import write_category

    if preset not in PRESETS:
        raise UserError(f"no preset {preset!r}; known: {', '.join(PRESETS)}")
    asked: dict[str, Any] = dict(
        categories=tuple(category) if category else None,
        size=size,
        train=train,
        validation=validation,
        good=good,
        per_defect=per_defect,
    )
    given = {name: value for name, value in asked.items() if value is not None}
    spec = replace(PRESETS[preset], layout=layout, seed=seed, **given)
    for name in spec.categories:
        with _progress(name) as report:
            write_category(folder, name, spec, report, workers or os.cpu_count() or 1)
        console.print(f"{escape(name)}: {sum(spec.counts(name).values())} samples")
    console.print(f"relief run --data {escape(str(folder))}", soft_wrap=True)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="Folder of what was recorded or exported.")],
    out: Annotated[Path, typer.Argument(help="Folder of the dataset, made if missing.")],
    category: Annotated[str, typer.Option(help="The name of this kind of part.")] = "part",
    table: Annotated[
        Optional[Path],
        typer.Option(
            "--csv", help="Table of samples: image, depth, and if known split, defect, mask."
        ),
    ] = None,
    camera: Annotated[
        Optional[Path], typer.Option(help="JSON of the intrinsics (default: found in the folder).")
    ] = None,
) -> None:
    """Bring frames of RealSense, Kinect or Azure Kinect, PLY or PCD pairs, tables, and masks of
    LabelMe or COCO into the layout, by hard links where possible."""
    from harness.data.importing import calibrated, find, unused, write
    from harness.data.importing.cameras import bends, find_camera, parsed, read_camera
    from harness.data.mvtec3d import CAMERA

    frames, left, sheets = find(source, table)
    if not frames:
        reasons = "; ".join(f"{one.file}: {one.why}" for one in left[:3]) or "it holds no file"
        raise UserError(
            f"no sample in {source}: {reasons}. A sample is a colour image and a depth image or "
            "cloud of the same name or number, such as color_007.png and depth_007.png"
        )
    file = camera or find_camera(sheets)
    if file is None and any(frame.is_depth for frame in frames):
        for sheet in sheets:
            parsed(sheet)  # maybe the camera is in one that cannot be read
    left += unused(sheets, file)
    lens = read_camera(file) if file else None
    with _progress("import") as report:
        counts = write(frames, out, category, lens, report)
    for place, count in sorted(counts.items()):
        console.print(escape(f"{category}/{place}: {count}"))
    if file and any(frame.is_depth for frame in frames):
        console.print(escape(f"camera: {file}"), soft_wrap=True)
        if bends(parsed(file)):
            console.print(
                "it has coefficients of distortion, which are not applied: straighten the images, "
                "or take the straightened stream (RealSense's is, where they are 0)",
                soft_wrap=True,
            )
        if not calibrated(frames, lens):
            console.print(
                "it has no depth_scale: whole numbers are taken as millimetres, others as metres; "
                f"else correct it in {escape(str(out / category))}/{CAMERA}",
                soft_wrap=True,
            )
    for one in left[:SHOWN]:
        console.print(escape(f"left out {one.file}: {one.why}"), soft_wrap=True)
    if len(left) > SHOWN:
        console.print(f"and {len(left) - SHOWN} more left out")
    console.print(f"relief data check {escape(str(out))}", soft_wrap=True)


@app.command()
def show(
    root: Root,
    kind: Kind = "auto",
    option: Options = None,
    category: Categories = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    sample: Annotated[
        Optional[list[str]], typer.Option(help="An id such as hole/003; may be repeated.")
    ] = None,
    view: Annotated[
        Optional[str],
        typer.Option(help="What a method sees, e.g. 3dsr or dbrn/ms, or a view's name."),
    ] = None,
    setting: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of that method, e.g. prep.plane_threshold_m=0.01; may be repeated.",
        ),
    ] = None,
    background: Background = "auto",
    limit: Annotated[int, typer.Option(min=1, help="At most so many samples.")] = 24,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="PNG, or HTML if the name ends in .html.")
    ] = Path("relief-data.png"),
) -> None:
    """Write a contact sheet of samples: colour, depth, foreground, ground truth; or a view."""
    from harness.data.show import choose, raw_row, view_rows, write_sheet
    from harness.data.views.choice import choose as choose_background

    dataset = _open(kind, root, option)
    word = _background(background, dataset.kind)
    recipe = _view(view, setting or []).on(word) if view else None
    if setting and not view:
        raise UserError("--set changes a setting of a method: name it with --view, e.g. das3d")
    chosen = choose(dataset, category or (), split, sample or (), limit)
    rows = []
    with _progress("read") as report:
        for name in dict.fromkeys(one.name for one, _ in chosen):
            of = dataset.category(name)
            refs = [ref for one, ref in chosen if one.name == name]
            if recipe:
                rows += view_rows(of, refs, recipe, report)
                continue
            taken = choose_background(of).background if word == "auto" else word
            rows += [raw_row(of, ref, taken) for ref in refs]
    if not any(row.tiles for row in rows):
        raise UserError(f"none of {len(rows)} samples can be shown: {rows[0].note}")
    title = f"{dataset.root.name}: {dataset.kind}, {split}" + (f", view {view}" if view else "")
    write_sheet(rows, out, title + "".join(f" {item}" for item in setting or []))
    console.print(f"{len(rows)} samples in {escape(str(out))}", soft_wrap=True)
    for row in rows:
        if row.note:
            console.print(escape(f"{row.title}: {row.note}"), soft_wrap=True)


def _view(name: str, changes: list[str]):
    """The view of a method with its settings changed, or a view by its own name."""
    import methods
    from harness.data.views.registry import view_named
    from harness.planning import config

    method, _, variant = name.partition("/")
    if method not in methods.METHODS:
        recipe = view_named(name).recipe()
        keys = dict(item.split("=", 1) for item in changes if "=" in item)
        return config.with_overrides(
            recipe, {k.removeprefix("prep."): v for k, v in keys.items()}, name
        )
    loaded = config.load("demo", [f"methods=[{name}]", *(f"{method}.{item}" for item in changes)])
    cls, settings = methods.get(method), loaded.settings_of(method, variant)
    return cls.view(settings, cls.supported(settings)[-1])  # as for rgb+3d, where it has that


def _background(asked: str, kind: str) -> str:
    """The word of recipes for what was asked on the command line."""
    from harness.planning import config
    from harness.planning.sources import background

    return background(config.structured(config.Dataset, {"background": asked}), kind)


def _open(kind: str, root: str, options: list[str] | None):
    from harness.data.datasets import open_dataset

    pairs = (item.partition("=") for item in options or [])
    return open_dataset(kind, root, **{name: value for name, _, value in pairs})


def _counts(found) -> Table:
    table = Table("category", "rows x columns", "train", "validation", "test", title="Samples")
    for category, splits in found.counts.items():
        size = " x ".join(map(str, found.sizes.get(category, ())))
        cells = [
            escape(", ".join(f"{defect} {n}" for defect, n in counts.items()))
            for counts in splits.values()
        ]
        table.add_row(escape(category), size, *cells)
    return table


class _progress:
    """A bar that is called with (done, total)."""

    def __init__(self, label: str):
        self.bar = Progress(
            TextColumn(escape(label)),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(label, total=None)

    def __enter__(self):
        self.bar.start()
        return lambda done, total: self.bar.update(self.task, completed=done, total=total)

    def __exit__(self, *_) -> None:
        self.bar.stop()
