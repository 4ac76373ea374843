"""Every command and every YAML of the documentation is one that the program takes."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from harness.cli.app import app
from harness.planning import config, space, study, yaml12

ROOT = Path(__file__).parents[1]
TEXTS = [
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*/**/*.md")]
    if not {".venv", "fixtures", "node_modules"} & set(path.parts) and path.name != "CHANGELOG.md"
]


def blocks(language):
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S):
            yield str(path.relative_to(ROOT)), block


def commands():
    for path, block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|", line):
                words = shlex.split(part, comments=True)
                while words and (words[0] in ("uv", "run") or "=" in words[0]):
                    words = words[1:]
                if words[:1] == ["relief"]:
                    yield pytest.param(words[1:], id=f"{path}: {' '.join(words)}"[:120])


@pytest.mark.parametrize("words", list(commands()))
def test_a_documented_command_is_parsed(words):
    if words in (["..."], []):
        return
    command, rest = typer.main.get_command(app), words
    context = click.Context(command)
    while isinstance(command, click.Group):
        command.parse_args(context, [*rest])
        name, rest = context._protected_args[0], [*context._protected_args[1:], *context.args]
        found = command.get_command(context, name)
        assert found is not None, f"no command {name!r}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.parse_args(context, list(rest))


@pytest.mark.parametrize(
    "text", [pytest.param(text, id=f"{path}: {text[:40]!r}") for path, text in blocks("yaml")]
)
def test_a_documented_yaml_is_typed(text):
    given = yaml12.load(text)
    if "space" in given or "objective" in given:
        config.structured(space.Sweep, {"name": "documented", **given})
    elif "paper" in given:
        config.structured(study.Study, given)
    else:
        config.typed(config.merge(config.read("demo"), given), "documented")


def test_every_shipped_configuration_is_typed():
    for name in config.shipped():
        given = config.read(name)
        given["datasets"] = given.get("datasets") or {"data": {}}
        for dataset in given["datasets"].values():
            dataset.setdefault("root", "/data")
        config.typed(given, name)
