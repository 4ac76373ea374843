"""Every command and every YAML of the documentation is one that the program takes."""

import functools
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.app import built
from harness.planning import config, space, study, yaml12

ROOT = Path(__file__).parents[1]
TEXTS = [
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*/**/*.md")]
    if not {".venv", "fixtures", "node_modules"} & set(path.parts) and path.name != "CHANGELOG.md"
]
ANYWHERE = {"--plugin": 2, "--debug": 1, "--quiet": 1}  # may stand at any place; words of each


def blocks(language):
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S):
            yield str(path.relative_to(ROOT)), block


def commands():
    """(where, words) of every `relief` line of the documents' blocks."""
    for path, block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|", line):
                words = [word for word in shlex.split(part, comments=True) if word != "..."]
                while words and (words[0] in ("uv", "run") or "=" in words[0]):
                    words = words[1:]
                if words[:1] == ["relief"] and words[1:]:
                    yield path, words[1:]


def mentions():
    """(where, words) of every `relief ...` within a line of documents, docstrings and messages."""
    rooms = [
        path for name in ("harness", "methods", "reports") for path in (ROOT / name).rglob("*.py")
    ]
    for file in [*TEXTS, *rooms]:
        for line in re.findall(r"`relief ([^`{}]+)`", file.read_text(encoding="utf-8")):
            if line.split()[0] != "COMMAND" and "..." not in line.split()[0]:
                yield str(file.relative_to(ROOT)), line.replace("\\", "").split()


@functools.cache
def whole():
    return typer.main.get_command(built())


def named(words):
    """(command, its name, the words behind it) of `relief WORDS`; fails if there is none."""
    command, name, rest = whole(), "relief", list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name, rest = rest[0], rest[1:]
        assert name in command.commands, f"no command {name!r}"
        command = command.commands[name]
    return command, name, rest


def parsed(words):
    """The command's name and parameters, of `relief WORDS`; a wrong one raises."""
    command, name, rest = named(words)
    while set(ANYWHERE) & set(rest):
        at = next(i for i, word in enumerate(rest) if word in ANYWHERE)
        del rest[at : at + ANYWHERE[rest[at]]]
    context = command.context_class(command, info_name=name)
    command.parse_args(context, rest)
    return name, context.params


def all_of(command, words=()):
    """(words, command) of every command below one."""
    for name, one in getattr(command, "commands", {}).items():
        yield (*words, name), one
        yield from all_of(one, (*words, name))


def test_the_help_of_every_command_says_all_that_there_is_in_80_columns():
    program, whats = built(), dict(all_of(whole()))
    assert len(whats) > 30
    for words, command in whats.items():
        done = CliRunner().invoke(program, [*words, "--help"], env={"COLUMNS": "80"})
        assert done.exit_code == 0, (words, done.exception)
        shown = re.sub(r"[\s│]+", "", done.output)
        texts = (command.help, *(getattr(param, "help", "") for param in command.params))
        lost = [word for text in texts for word in (text or "").split() if word not in shown]
        assert not lost, (words, lost)
        assert max(map(len, done.output.splitlines())) <= 80


@pytest.mark.parametrize(
    "words", [pytest.param(w, id=f"{path}: {' '.join(w)}"[:120]) for path, w in commands()]
)
def test_a_documented_command_is_parsed(words):
    parsed(words)


@pytest.mark.parametrize(
    "words", [["runn"], ["run", "--no"], ["data", "look"], ["models", "x", "y"]]
)
def test_a_command_that_is_wrong_is_found_out(words):
    with pytest.raises((AssertionError, Exception), match=r"no command|[Nn]o such|unexpected"):
        parsed(words)


def test_commands_and_options_that_texts_and_messages_mention_are_there():
    found = set()
    for path, words in mentions():
        command, name, rest = named(words)
        known = {option for param in command.params for option in param.opts}
        for option in (word.strip("[],;") for word in rest if word.startswith(("--", "[--"))):
            assert {option.split("=")[0]} & {*known, *ANYWHERE, "--help"}, (
                f"{path}: {name} {option}"
            )
        found.add(name)
    assert len(found) > 20


def test_what_documented_commands_set_is_typed():
    """Names of configurations, studies and sweeps, and each key=value, but for a reader's own."""
    seen = set()
    for path, words in commands():
        if words[0] not in ("run", "plan", "study", "sweep") or "--plugin" in words:
            continue
        _, given = parsed(words)
        what, data = given["what"] or [], given["data"]
        names = [word for word in what if "=" not in word]
        changes = [
            word for word in what if "=" in word and "my_" not in word and "FILE" not in word
        ]
        key = (words[0], *names, *changes)
        if key in seen or any("mean_depth" in word for word in changes):
            continue
        seen.add(key)
        assert len(names) <= 1, f"{path}: {words}"
        shipped = [name for name in names if not name.endswith(".yaml")]
        try:
            check_typed(words[0], "".join(shipped), changes, bool(data))
        except config.ConfigError as error:
            raise AssertionError(f"{path}: relief {' '.join(words)}: {error}") from error
    assert len(seen) > 20


def check_typed(command, name, changes, on_data):
    """Raises ConfigError. Datasets of one's own stand under any name."""
    if command == "sweep":
        changes = [change for change in changes if change != "base=benchmark"]  # wants a folder
        space.load(name or "das3d_simulation", changes)
        return
    if command == "study" or (command == "plan" and study.is_study(name)):
        study.read(name)
        return
    given = config.read(name or "demo")
    if on_data or not given.get("datasets"):
        given["datasets"] = {"data": {"root": "/data"}}
    for change in changes:
        if change.startswith("datasets."):
            given["datasets"].setdefault(change.split(".")[1], {"root": "/data"})
    config.typed(config.merge(given, {}, changes), "documented")


def test_messages_that_the_table_of_symptoms_quotes_are_ours():
    guide = (ROOT / "harness/cli/README.md").read_text().partition("## 6. Symptoms")[2]
    code = "".join(path.read_text() for path in (ROOT / "harness").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # literals over several lines
    quoted = [
        words
        for row in re.findall(r"^\| (.*?) \|", guide, re.M)
        for words in re.findall('"(.+?)"', row)
    ]
    assert len(quoted) > 6
    assert [words for words in quoted if words not in code] == []


def test_documented_modules_and_their_options_are_there():
    """`python -m MODULE --option` of documents and docstrings."""
    sources = [p for p in ROOT.glob("*/**/*.py") if ".venv" not in p.parts]
    found = set()
    for file in [*TEXTS, *sources]:
        for module, rest in re.findall(
            r"python -m ([a-z_.]+[a-z0-9_]*)([^`\n)]*)", file.read_text()
        ):
            if module.split(".")[0] in ("harness", "methods", "reports", "tests"):
                found.add((str(file.relative_to(ROOT)), module, rest))
    assert len(found) > 20
    for where, module, rest in sorted(found):
        spec = importlib.util.find_spec(module)
        assert spec and spec.origin, f"{where}: no module {module}"
        code = Path(spec.origin).read_text()
        for option in re.findall(r"--[a-z][a-z-]+", rest):
            assert option in code or "argparse" not in code, f"{where}: {module} has no {option}"


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
        base = config.read(given.pop("base", "demo"))
        config.typed(config.merge(base, given), "documented")


def test_every_shipped_configuration_is_typed():
    for name in config.shipped():
        given = config.read(name)
        given["datasets"] = given.get("datasets") or {"data": {}}
        for dataset in given["datasets"].values():
            dataset.setdefault("root", "/data")
        config.typed(given, name)
