"""What the comments of configs name exists: sections of the papers, tables, settings, commands."""

import re

import pytest

from harness.planning import config
from harness.planning.config import REPOSITORY
from reports.numbers.published import published

SECTIONS = {  # of each paper, from its text
    "3dsr": "1 2 3 3.1 3.2 4 4.1 4.2 5 6",
    "dbrn": "I II III III-A III-B III-C III-D IV IV-A IV-B IV-C IV-D IV-E V",
    "das3d": "1 2 2.1 2.2 3 3.1 3.2 3.3 4 4.1 4.2 4.3 5",
    "m3dm": "1 2 3 3.1 3.2 3.3 3.4 4 4.1 4.2 4.3 4.4 4.5 4.6 4.7 5 A B C D E F G H",
    "shape_guided": "1 2 3 3.1 3.2 4 4.1 4.2 4.3 4.4 4.5 4.6 4.7 5 5.1 5.2 6",
}
FILES = sorted(REPOSITORY.rglob("*.yaml"))
NUMBER = r"(?:\d(?:\.\d)?|[IVX]+(?:-[A-E])?|[A-H])\b"
CITED = re.compile(rf"(?:[Ss]ections?|Appendix) ({NUMBER}(?:(?:, | and | to ){NUMBER})*)")
OPTION = re.compile(r"\b(?:3dsr|das3d|dbrn|m3dm|shape_guided)\.[a-z_0-9]+[\w.\[\]]*\w\]?")


def paper_of(path):
    return path.parent.name if path.parent.name in SECTIONS else path.stem.rsplit("_", 1)[0]


def comments(path):
    return " ".join(re.findall(r"#\s?(.*)", path.read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_sections_tables_and_settings_that_a_comment_names_exist(path):
    text, paper = comments(path), paper_of(path)
    if paper in SECTIONS:
        for cited in CITED.findall(text):
            assert set(re.findall(NUMBER, cited)) <= set(SECTIONS[paper].split()), cited
        tables = set(published().query("source == @paper")["table"])
        for number in re.findall(rf"Table ({NUMBER})", text):
            assert f"Table {number}" in tables
    for option in OPTION.findall(text):
        value = config.settings_of(option.partition(".")[0])
        for part in re.findall(r"[\w-]+", option.partition(".")[2]):
            value = value[int(part)] if part.isdigit() else getattr(value, part)


def test_the_check_finds_what_is_not_there():
    assert CITED.findall("see sections 3.2, 3.3 and 3.5.") == ["3.2, 3.3 and 3.5"]
    assert "3.5" not in SECTIONS["das3d"].split() and "3.3" not in SECTIONS["3dsr"].split()
    assert OPTION.findall('only=["dbrn.loss.weights[2]"].') == ["dbrn.loss.weights[2]"]


def test_every_study_and_sweep_says_which_paper_it_is_of():
    for path in FILES:
        if path.parent.name in ("sweeps", *SECTIONS):
            assert path.read_text().startswith("# ") and paper_of(path) in SECTIONS
