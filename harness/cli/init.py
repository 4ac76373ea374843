"""The command that writes a configuration of one's own: relief init."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape

from harness.cli import places
from harness.cli.terminal import console
from methods.blocks.texture_choice import SUFFIXES
from methods.errors import UserError
from methods.published import FILES, WeightFile, below, damage

BASE = "benchmark"  # the shipped configuration that is completed
HEAD = (
    "# The full benchmark, as `relief init` wrote it: the defaults are the papers' settings.",
    "#   relief plan THIS     what it takes, and what is done already",
    "#   relief run THIS      does the rest; the same command goes on after a stop",
    "# Anything may be changed here, or for once on the command line: relief run THIS seeds=[0]",
    "# Variants: relief list variants. Settings, units and sources: relief list settings das3d",
)
WHOLE_WORDS = {"break_long_words": False, "break_on_hyphens": False}
WANTED = {  # what the folders of the options hold
    "textures": "images of the Describable Textures Dataset",
    "images": "training images of ImageNet, or any photographs",
    "weights": "published weights, see relief weights list",
}


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
    asked = "Folder of MVTec 3D-AD or Eyecandies"
    roots = data or _asked(asked, places.datasets(), lambda root: open_dataset("auto", root))
    if not roots:
        raise UserError(
            "no dataset was found in the usual places: give its folder with --data "
            "(relief data make synthetic FOLDER makes one)"
        )
    for root in roots:
        open_dataset("auto", root)  # refuses what is none
    given = {
        "textures": textures or _one("textures", "Images of DTD (textures)", places.textures),
        "images": images or _one("images", "Training images of ImageNet", places.images),
        "weights": weights or _one("weights", "Folder of published weights", places.weights),
    }
    for name, path in given.items():
        if path:
            _check(name, path)
    text, lacking = written(roots, **given)
    file.write_text(text, encoding="utf-8")
    _tell(file, roots, given, lacking)


def _check(name: str, path: Path) -> None:
    """Raise UserError for a folder that is none, or holds nothing of what it is for."""
    if not path.is_dir():
        why = "is no folder"
    elif name != "weights" and not places.has_images(path):
        why = f"holds no image ({', '.join(SUFFIXES)})"
    elif name == "weights" and not places.has_weights(path):
        why = "holds none of the published files, or under other names"
    else:
        return
    raise UserError(f"--{name} {path} {why}: give a folder of {WANTED[name]}, or leave it out")


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


def _usual() -> list[WeightFile]:
    """The first file of each setting."""
    return list({file.setting: file for file in reversed(FILES)}.values())[::-1]


def _there(weights: Path | None) -> list[tuple[WeightFile, str]]:
    """The usual files of settings that lie in the folder, and their paths."""
    if weights is None:
        return []
    paths = [(file, below(weights, file.file)) for file in _usual()]
    return [(file, _whole(path)) for file, path in paths if path]


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
        lines += [f"#   {line}" for text in missing for line in _folded(text)]
    lines += [base[base.index("\nsettings:") + 1 :].rstrip(), ""]
    lines += ["# where the data lie; `categories: [a, b]` takes some of them", ""]
    lines += [dumped({"datasets": datasets}), ""]
    lines += [dumped({method: values}) for method, values in own.items()]
    for file, path in _there(weights):
        if why := damage(Path(path)):
            lines += [f"# {file.file} is there, and damaged: {why}"]
        elif not file.needed:
            lines += [f"# {file.file} is there, too: {file.purpose}."]
            lines += [f"#   {file.setting}={path} takes it. Without it:", f"#   {file.without}"]
    return "\n".join(lines) + "\n"


def _folded(text: str) -> list[str]:
    """Lines of a comment; addresses and paths stay whole."""
    lines = text.splitlines()
    return [part for line in lines for part in textwrap.wrap(line, 92, **WHOLE_WORDS)]


def _asked(what: str, found: list[Path], check: Callable[[Path], object]) -> list[Path]:
    """The folders that were found; on a terminal, the one that is answered, once it will do."""
    if not sys.stdin.isatty():
        return found

    def folder(answer: str) -> str:
        try:
            if answer:
                check(Path(answer).expanduser())
        except (UserError, OSError) as error:
            raise typer.BadParameter(str(error)) from error
        return answer

    default = str(found[0]) if found else ""
    answer = typer.prompt(what, default=default, show_default=bool(found), value_proc=folder)
    return [Path(answer).expanduser()] if answer else []


def _one(name: str, what: str, find: Callable[[], Path | None]) -> Path | None:
    found = find()
    asked = f"{what} (none: leave empty)"
    answered = _asked(asked, [found] if found else [], lambda path: _check(name, path))
    return answered[0] if answered else None


def _tell(file: Path, roots: list[Path], given: dict, lacking: dict[str, list[str]]) -> None:
    rows = {"data": ", ".join(map(str, roots))}
    for name, path in given.items():
        rows[name] = str(path) if path else f"none: --{name} FOLDER takes {WANTED[name]}"
    there = {found.file for found, _ in _there(given["weights"])}
    lacks = [one.file for one in _usual() if one.needed and one.file not in there]
    if given["weights"] and lacks:
        rows["weights"] += f", without {', '.join(lacks)}"
    for name, text in rows.items():
        console.print(f"{name:9} {escape(text)}", soft_wrap=True)
    name = escape(str(file))
    if lacking:
        left = f"{', '.join(lacking)}; {name} says what each lacks"
        console.print(f"[yellow]left out[/yellow]  {left}", soft_wrap=True)
    console.print(f"{name} is written: relief plan {name}, then relief run {name}", soft_wrap=True)
