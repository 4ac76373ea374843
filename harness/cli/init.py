"""The command that writes a configuration of one's own: relief init."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape

from harness.cli import places
from harness.cli.terminal import console
from methods.errors import UserError
from methods.published import FILES, WeightFile

BASE = "benchmark"  # the shipped configuration that is completed
HEAD = (
    "# The full benchmark, as `relief init` wrote it: the defaults are the papers' settings.",
    "#   relief plan THIS     what it takes, and what is done already",
    "#   relief run THIS      does the rest; the same command goes on after a stop",
    "# Anything may be changed here, or for once on the command line: relief run THIS seeds=[0]",
    "# Variants: relief list variants. Settings, units and sources: relief list settings das3d",
)


def init(
    file: Annotated[Path, typer.Argument(help="The YAML file to write.")] = Path("my.yaml"),
    data: Annotated[
        Optional[list[Path]],
        typer.Option(help="Unpacked MVTec 3D-AD, Eyecandies or data of your own; may be repeated."),
    ] = None,
    textures: Annotated[
        Optional[Path],
        typer.Option(help="Images of the Describable Textures Dataset: DAS3D, DBRN."),
    ] = None,
    images: Annotated[
        Optional[Path],
        typer.Option(help="Training images of ImageNet, or any photographs: 3DSR's first stage."),
    ] = None,
    weights: Annotated[
        Optional[Path],
        typer.Option(help="Folder of published weights (relief weights list): M3DM and others."),
    ] = None,
) -> None:
    """Write the full benchmark as a commented configuration, with the paths of this machine.

    What is not given is looked for in the usual places, and asked for on a terminal. Methods that
    lack something are named in the file with what would do.
    """
    from harness.data.datasets import open_dataset

    if file.exists():
        raise UserError(f"{file} is there already: give another name, or move it away")
    roots = data or _asked("Folder of MVTec 3D-AD or Eyecandies", places.datasets())
    if not roots:
        raise UserError(
            "no dataset was found in the usual places: give its folder with --data "
            "(relief data make synthetic FOLDER makes one)"
        )
    for root in roots:
        open_dataset("auto", root)  # refuses what is none
    given = {
        "textures": textures or _one("Images of DTD (textures)", places.textures),
        "images": images or _one("Training images of ImageNet", places.images),
        "weights": weights or _one("Folder of published weights", places.weights),
    }
    for name, path in given.items():
        if path and not path.is_dir():
            raise UserError(f"--{name} {path} is no folder: give one, or leave it out")
    text, lacking = written(roots, **given)
    file.write_text(text, encoding="utf-8")
    _tell(file, roots, given, lacking)


def written(
    roots: list[Path], textures: Path | None, images: Path | None, weights: Path | None
) -> tuple[str, dict[str, list[str]]]:
    """The configuration as text, and what methods lack that it leaves out: entry -> what to do."""
    from harness.planning import config
    from harness.planning.expand import missing_inputs

    datasets: dict[str, Any] = {}
    for root in roots:
        datasets |= config.on_data({}, str(root))["datasets"]
    own = _settings(textures, images, weights)
    base = config.plain_values(config.find(BASE)) | own | {"datasets": datasets, "name": BASE}
    lacking = {}
    for entry in base["methods"]:
        if missing := missing_inputs(config.typed(base | {"methods": [entry]}, BASE)):
            lacking[entry] = missing
    kept = [entry for entry in base["methods"] if entry not in lacking]
    return _text(kept, lacking, datasets, own, weights), lacking


def _settings(
    textures: Path | None, images: Path | None, weights: Path | None
) -> dict[str, dict[str, Any]]:
    """Method -> its settings of paths: textures, photographs, and weights it cannot do without."""
    own: dict[str, dict[str, Any]] = {}
    if textures:
        own = {m: {"texture": {"folder": _whole(textures)}} for m in ("das3d", "dbrn")}
    if images:
        folder = {"images": {"folder": _whole(images)}}
        own["3dsr"] = {"dada": folder, "rgb": {"dada": dict(folder)}}
    for file, path in _there(weights):
        if file.needed:
            method, group, name = file.setting.split(".")
            own.setdefault(method, {}).setdefault(group, {})[name] = path
    return own


def _there(weights: Path | None) -> list[tuple[WeightFile, str]]:
    """The usual files of settings that lie in the folder, and their paths."""
    if weights is None:
        return []
    usual = {file.setting: file for file in reversed(FILES)}.values()
    paths = [(file, weights / file.file) for file in reversed(usual)]
    return [(file, _whole(path)) for file, path in paths if path.is_file()]


def _whole(path: Path) -> str:
    return str(path.expanduser().resolve())


def _text(
    kept: list[str],
    lacking: dict[str, list[str]],
    datasets: dict[str, Any],
    own: dict[str, dict[str, Any]],
    weights: Path | None,
) -> str:
    """The base's own text from its settings on, with what this machine has around it."""
    from harness.planning import config
    from harness.planning.yaml12 import dumped

    base = config.find(BASE).read_text(encoding="utf-8")
    lines = [*HEAD, f"methods: [{', '.join(kept)}]"]
    for entry, missing in lacking.items():
        lines.append(f"# {entry} is left out, it lacks:")
        lines += [f"#   {line}" for text in missing for line in text.splitlines()]
    lines += [base[base.index("\nsettings:") + 1 :].rstrip(), ""]
    lines += ["# where the data lie; `categories: [a, b]` takes some of them", ""]
    lines += [dumped({"datasets": datasets}), ""]
    lines += [dumped({method: values}) for method, values in own.items()]
    for file, path in _there(weights):
        if not file.needed:
            lines += [f"# {file.file} is there, too: {file.purpose}."]
            lines += [f"#   {file.setting}={path} takes it. Without it:", f"#   {file.without}"]
    return "\n".join(lines) + "\n"


def _asked(what: str, found: list[Path]) -> list[Path]:
    """The folders that were found; on a terminal, the one that is answered."""
    if not sys.stdin.isatty():
        return found
    answer = typer.prompt(what, default=str(found[0]) if found else "", show_default=bool(found))
    return [Path(answer)] if answer else []


def _one(what: str, find: Callable[[], Path | None]) -> Path | None:
    found = find()
    answered = _asked(f"{what} (none: leave empty)", [found] if found else [])
    return answered[0] if answered else None


def _tell(file: Path, roots: list[Path], given: dict, lacking: dict[str, list[str]]) -> None:
    there = {"data": ", ".join(map(str, roots)), **given}
    for name, path in there.items():
        console.print(f"{name:9} {escape(str(path)) if path else 'none'}", soft_wrap=True)
    for entry, missing in lacking.items():
        console.print(f"[yellow]{entry} is left out[/yellow]: {escape(missing[0])}", soft_wrap=True)
    name = escape(str(file))
    console.print(f"{name} is written: relief plan {name}, then relief run {name}", soft_wrap=True)
