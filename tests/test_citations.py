"""Whatever the repository refers to is in the repository: sections, files and headings."""

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUFFIXES = (".py", ".yaml", ".yml", ".md")
FOLDERS = ("configs", "harness", "methods", "reports", "tests")
OUTSIDE = "specs" + "/"  # notes that are not part of the repository

NUMBER = r"\d+(?:\.\d+)*"
NUMBERS = rf"{NUMBER}(?:(?:, | and | to |, and ){NUMBER})*"
PATH = r"[\w./-]*\bREADME\.md"
AFTER = re.compile(rf"({PATH})`?,? \(?(?:sections?|sec\.) ({NUMBERS})")  # x/README.md, section 3
BEFORE = re.compile(rf"(?:sections?|sec\.) ({NUMBERS}) of (?:the )?`?({PATH})")
MENTIONED = re.compile(r"\b(?:[\w-]+/)+README\.md")
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)

FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in chain(ROOT.glob("*"), *((ROOT / folder).rglob("*") for folder in FOLDERS))
    if path.suffix in SUFFIXES and path.is_file()
)
PAGES = [file for file in FILES if file.endswith(".md")]


def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def in_one_line(text: str) -> str:
    """Docstrings and comments as running text, since citations wrap."""
    return re.sub(r"\s*\n[ \t]*(?:#+ )?[ \t]*", " ", text)


def prose(text: str) -> str:
    """Markdown without its code."""
    text = re.sub(r"^ *(```|~~~).*?^ *\1 *$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def headings(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return HEADING.findall(
        re.sub(r"^ *(```|~~~).*?^ *\1 *$", "", text, flags=re.DOTALL | re.MULTILINE)
    )


def sections(page: Path) -> set[str]:
    """ "## 3.1 PRO" -> "3.1" """
    return {m[1] for text in headings(page) if (m := re.match(rf"({NUMBER})\.? ", text))}


def anchors(page: Path) -> set[str]:
    """What a link may name after #, as GitHub makes it of headings."""
    found: dict[str, int] = {}
    for text in headings(page):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def page_of(cited: str, file: str) -> Path | None:
    """The README that a file cites: by its path from the root, or beside the file."""
    for base in (ROOT, (ROOT / file).parent):
        if (base / cited).is_file():
            return base / cited
    return None


def citations(text: str) -> list[tuple[str, list[str]]]:
    """(README, numbers of its sections) for every citation in a text."""
    text = in_one_line(text)
    found = [(m[1], m[2]) for m in AFTER.finditer(text)]
    found += [(m[2], m[1]) for m in BEFORE.finditer(text)]
    return [(path, re.findall(NUMBER, numbers)) for path, numbers in found]


def test_citations_are_found_however_they_are_written():
    text = '''
    # a/README.md, section 3.
    """As b/README.md (sections 1.1 and 1.3): `c/README.md`, sections 2, 4 and 8; d/README.md,
    section 5. Section 6 is ours; see sections 1 to 3 of the e/README.md."""
    # f/README.md,
    # section 7
    '''
    assert sorted(citations(text)) == [
        ("a/README.md", ["3"]),
        ("b/README.md", ["1.1", "1.3"]),
        ("c/README.md", ["2", "4", "8"]),
        ("d/README.md", ["5"]),
        ("e/README.md", ["1", "3"]),
        ("f/README.md", ["7"]),
    ]


def test_anchors_are_those_of_github(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# `relief run`: a & b\n\n## 2. GPUs, clusters\n```\n# no\n```\n# Same\n# Same\n"
    )
    assert anchors(page) == {"relief-run-a--b", "2-gpus-clusters", "same", "same-1"}
    assert sections(page) == {"2"}


@pytest.mark.parametrize("file", FILES)
def test_nothing_outside_the_repository_is_cited(file):
    lines = [f"{i}: {x}" for i, x in enumerate(text_of(file).splitlines(), 1) if OUTSIDE in x]
    assert not lines, f"{file} cites what a reader does not have"


@pytest.mark.parametrize("file", [file for file in FILES if file != "tests/test_citations.py"])
def test_cited_readmes_have_the_cited_sections(file):
    text = text_of(file)
    for cited in MENTIONED.findall(text):
        assert page_of(cited, file), f"{file} names {cited}, which does not exist"
    for cited, numbers in citations(text):
        page = page_of(cited, file)
        assert page, f"{file} cites {cited}, which does not exist"
        lacking = [number for number in numbers if number not in sections(page)]
        assert not lacking, f"{file} cites {cited}, which has no section {', '.join(lacking)}"


@pytest.mark.parametrize("file", PAGES)
def test_links_lead_somewhere(file):
    for target in LINK.findall(prose(text_of(file))):
        if re.match(r"[a-z][a-z+.-]*:", target):  # https:, mailto:
            continue
        path, _, anchor = target.partition("#")
        page = (ROOT / file).parent / path if path else ROOT / file
        assert page.exists(), f"{file} links to {target}, which does not exist"
        if anchor:
            assert anchor in anchors(page), f"{file} links to {target}: no such heading"
