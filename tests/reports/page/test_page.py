import csv
import io
import re
from html.parser import HTMLParser

from rich.console import Console

from harness.store import Store
from reports.page.render import leaderboard_text, write_report
from tests.reports.fake_store import HOSTILE

SMALL = {"methods": [("das3d", ""), ("m3dm", "")], "settings": ["rgb", "rgb+3d"], "arrays": False}
DRAWN = SMALL | {"arrays": True, "seeds": [0]}
VOID = {"meta", "link", "br", "wbr", "img", "input"}


class Page(HTMLParser):
    """Elements in order, and whether every one that opens is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(tmp_path, store, launch):
    return write_report(store, launch, tmp_path / "report").read_text(encoding="utf-8")


def test_hostile_text_is_shown_and_never_run(build, tmp_path):
    troubles = {("m3dm", "", "rgb", HOSTILE, 1): "failed"}
    store, launch = build(**SMALL, categories=["cookie", HOSTILE], troubles=troubles)
    text = page_of(tmp_path, store, launch | {"name": HOSTILE})
    page = Page(text)
    assert page.open == []
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert "&lt;script&gt;alert" in text and HOSTILE not in text
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    markdown = (tmp_path / "report" / "leaderboard.md").read_text()
    assert "<script" not in markdown and "\x1b" not in text


def test_the_page_needs_nothing_but_itself(build, tmp_path):
    text = page_of(tmp_path, *build(**DRAWN))
    markup = re.sub(r"base64,[^\"]*", "", text.partition("<script>")[0])
    assert not re.search(r"(https?:)?//\w", markup)
    page = Page(text)
    for tag, attributes in page.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    targets = {a["id"] for _, a in page.elements if "id" in a}
    links = {a["href"][1:] for tag, a in page.elements if tag == "a"}
    assert links <= targets
    assert "url(" not in text and "@import" not in text and "fetch(" not in text


def test_sortable_headers_are_buttons_and_images_have_names(build, tmp_path):
    page = Page(page_of(tmp_path, *build(**DRAWN)))
    assert sum(tag == "button" for tag, _ in page.elements) > 20
    assert any(a.get("aria-sort") == "descending" for tag, a in page.elements if tag == "th")
    assert all(a["alt"] for tag, a in page.elements if tag == "img")


def test_a_demo_says_so_everywhere_and_others_do_not(build, tmp_path):
    store, launch = build(**SMALL)
    for demo in (True, False):
        text = page_of(tmp_path, store, launch | {"demo": demo})
        assert ('class="banner"' in text) == demo
        assert ("> **Demo" in (tmp_path / "report" / "leaderboard.md").read_text()) == demo
        assert ("Demo:" in shown(store, launch | {"demo": demo})) == demo
        assert ('<span class="mark">demo</span>' in text) != demo  # then the rows are marked


def test_missing_and_undefined_numbers_are_named(build, tmp_path):
    troubles = {
        ("das3d", "", "rgb", "dome", 0): "out_of_memory",
        ("m3dm", "", "rgb", "cookie", None): "pending",
        ("m3dm", "", "rgb+3d", "dome", None): {"metrics": {"i_auroc": None}},
    }
    store, launch = build(**SMALL, troubles=troubles)
    text = page_of(tmp_path, store, launch)
    assert "– <small>out of memory</small>" in text and "– <small>pending</small>" in text
    assert ">n/a</td>" in text and "<small>1 of 2 categories</small>" in text
    assert "13 of 16 cells done, 1 out of memory, 2 pending" in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower().replace("nanum", "")
    assert "cannot fit" in text and "Last log lines" in text
    assert "| n/a |" in (tmp_path / "report" / "leaderboard.md").read_text()
    assert "nan" not in shown(store, launch).lower()


def test_writing_twice_gives_the_same_bytes_in_every_file(build, tmp_path):
    store, launch = build(**DRAWN)
    write_report(store, launch, tmp_path / "one")
    write_report(Store(store.path), store.launches()[0], tmp_path / "two")
    names = [
        "cells.csv",
        "cells.parquet",
        "cost.csv",
        "defects.csv",
        "hours.csv",
        "images.csv",
        "leaderboard.csv",
        "leaderboard.html",
        "leaderboard.md",
        "leaderboard.parquet",
        "leaderboard.tex",
        "summary.md",
    ]
    assert sorted(p.name for p in (tmp_path / "one").glob("*.*")) == names
    figures = [f"figures/{p.name}" for p in (tmp_path / "one" / "figures").iterdir()]
    assert len(figures) == 10  # a setting: AUPRO and ROC curves, 2 histograms, the speed
    for name in [*names, *figures]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_cost_is_grouped_and_a_shared_device_is_marked(build, tmp_path):
    text = page_of(tmp_path, *build(**SMALL))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report" / "cost.csv").read_text())))
    assert [(r["setting"], r["method"], r["cells"], r["speed_valid"]) for r in rows] == [
        ("rgb", "das3d", "4", "False"),
        ("rgb", "m3dm", "4", "True"),
        ("rgb+3d", "das3d", "4", "False"),
        ("rgb+3d", "m3dm", "4", "True"),
    ]
    assert text.count('12.3 <span class="mark">shared</span>') == 2


def test_rows_scored_in_different_ways_are_pointed_out(build, tmp_path):
    other = {"signatures": {"i_auroc": "i_auroc|v:2"}}
    text = page_of(tmp_path, *build(**SMALL, troubles={("m3dm",): other}))
    assert text.count("not all scored the same way") == 2  # I-AUROC in two settings
    assert "<code>i_auroc|v:2</code> (M3DM)" in text


def test_a_launch_without_any_result_has_a_page(build, tmp_path):
    store, launch = build(**SMALL, troubles={(): "pending"})
    text = page_of(tmp_path, store, launch)
    assert "0 of 16 cells done, 16 pending" in text and Page(text).open == []
    assert "0 of 16 cells done" in shown(store, launch)
    assert Page(page_of(tmp_path, store, launch | {"cells": []})).open == []


def shown(store, launch):
    console = Console(width=120, file=io.StringIO())
    console.print(leaderboard_text(store, launch))
    return console.file.getvalue()


def test_the_terminal_shows_the_means_and_takes_no_markup_from_data(build):
    store, launch = build(**SMALL)
    cells = [cell | {"dataset": "[red]x[/nope]"} for cell in launch["cells"]]
    text = shown(store, launch | {"cells": cells})
    assert "[red]x[/nope]" in text and "I-AUROC" in text and "±" in text
