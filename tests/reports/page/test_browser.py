"""The page in a real browser: no complaint, and nothing wider than the window."""

import html
import json
import re
import shutil
import subprocess

import pytest

from reports.numbers import evidence
from reports.page.render import write_report
from tests.reports.fake_store import HOSTILE

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (400, 900, 1280)  # px
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
PROBE = """<script>
const found = {width: innerWidth, page: document.documentElement.scrollWidth, wide: []};
for (const d of document.querySelectorAll("details")) d.open = true;
const scrolled = e => e.closest(".scroll, .bar, pre, .sr, svg");
for (const e of document.body.querySelectorAll("*"))
  if (!scrolled(e) && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    found.wide.push(e.tagName + "." + e.className);
found.page = document.documentElement.scrollWidth;
const button = document.querySelector(".sortable th:nth-child(2) button");
const first = () => document.querySelector(".sortable tbody tr").textContent;
const before = first(); button.click(); found.sorted = first() !== before;
const visible = e => e.getClientRects().length > 0;
const columns = () => [...document.querySelectorAll(".sheet thead th")].filter(visible);
found.columns = columns().map(e => e.textContent);
document.querySelector("#setting-0").click(); found.rgb = columns().map(e => e.textContent);
found.boards = [...document.querySelectorAll(".of-metric h4")].filter(visible)
  .map(e => e.textContent);
found.plots = [...document.querySelectorAll(".dots th > svg")].filter(visible)
  .map(e => e.getBoundingClientRect().width);
const tops = [...document.querySelectorAll(".panels")].map(panels =>
  [...panels.children].filter(visible).map(e => e.getBoundingClientRect().top));
found.rows = tops.map(t => [new Set(t).size, t.length]);
found.over = [...document.querySelectorAll(".dots :is(td, th.n), .sortable th")].filter(visible)
  .filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent);
const word = document.createElement("span");
word.textContent = "contamination";
document.querySelector(".sheet tbody th").append(document.createElement("br"), word);
found.whole = word.getClientRects().length === 1;
const out = document.createElement("pre");
out.id = "probe"; out.textContent = JSON.stringify(found);
document.body.append(out);
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed to open the page")
def test_the_page_fits_the_window_and_the_browser_does_not_complain(build, tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "published_data", lambda *given: "mvtec3d")
    store, launch = build(
        methods=[("das3d", ""), ("m3dm", ""), ("3dsr", "a long name of a variant")],
        categories=[HOSTILE, "bagel", "foam", "rope", "tire"],
        seeds=[0],
        troubles={("m3dm", "", "3d", HOSTILE, None): "failed"},
    )
    cells, datasets = launch["cells"], ("mvtec3d", "synthetic")
    twice = [cell | {"dataset": name} for name in datasets for cell in cells]
    page = write_report(store, launch | {"cells": twice}, tmp_path / "report")
    assert 'class="quoted"' in page.read_text(encoding="utf-8")
    probed = tmp_path / "probed.html"
    # the policy of the page allows inline scripts, so the probe runs under it, too
    text = page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>")
    probed.write_text(text, encoding="utf-8")
    found, complaints = opened(probed, WIDTHS, tmp_path)
    assert not complaints
    for width, shown in zip(WIDTHS, found, strict=True):
        assert shown["width"] == width and shown["sorted"]
        assert shown["page"] <= width and not shown["wide"], shown
        endings = {name.rpartition(")")[2][-6:] for name in shown["columns"]}
        assert endings - {"RGB", "Depth", "Truth"} == {"RGB+3D"}
        assert not any(name.endswith("3D") for name in shown["rgb"]) and len(shown["rgb"]) > 3
        assert set(shown["boards"]) == {"RGB, I-AUROC"}
        assert min(shown["plots"]) > 100  # px, whatever the width
        # panels lie all in a row or each in its own, and nothing is wider than its cell
        assert all(rows in (1, panels) for rows, panels in shown["rows"])
        assert shown["over"] == []
        assert shown["whole"]  # the longest kind of defect is not broken within


def opened(page, widths, tmp_path):
    """What PROBE found in the page at each width, and what the console says.

    Headless windows are never narrower than 500 px, so the page lies in frames.
    """
    outer = tmp_path / "outer.html"
    frames = [
        f'<iframe src="{page.name}" width="{width}" height="900" style="border:0"></iframe>'
        for width in widths
    ]
    collect = """<script>onload = () => {
      const inside = f => f.contentDocument.getElementById("probe").textContent;
      const p = document.createElement("pre");
      p.textContent = [...document.querySelectorAll("iframe")].map(inside).join();
      p.id = "found"; document.body.append(p);
    }</script>"""
    outer.write_text("".join(frames) + collect)
    options = ("--allow-file-access-from-files", "--window-size=1700,1000", "--dump-dom")
    shown, console = browse(outer.as_uri(), tmp_path, *options, budget_ms=10000, timeout=180)
    match = re.search(r'<pre id="found">(.*?)</pre>', shown)
    assert match, console[-20:]
    return json.loads(f"[{html.unescape(match[1])}]"), [
        line for line in console if "CONSOLE" in line
    ]


def browse(address, tmp_path, *options, budget_ms, timeout):
    """What the browser prints on stdout, and the lines of its log."""
    done = subprocess.run(
        [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            f"--virtual-time-budget={budget_ms}",
            *options,
            address,
        ],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.stdout, done.stderr.splitlines()
