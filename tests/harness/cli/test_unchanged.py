"""A report stands only while its results, its code and its own files are what they were."""

import pytest

from harness.cli import unchanged

CHANGES = {
    "cut short": lambda folder: (folder / "leaderboard.html").write_text("<p>"),
    "another number": lambda folder: (folder / "leaderboard.csv").write_text("0.9"),
    "gone": lambda folder: (folder / "figures" / "a.svg").unlink(),
    "one more": lambda folder: (folder / "figures" / "b.svg").write_text(""),
    "none": lambda folder: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_report_whose_files_were_changed_is_written_anew(tmp_path, change):
    (tmp_path / "figures").mkdir()
    for name in ("leaderboard.html", "leaderboard.csv", "figures/a.svg"):
        (tmp_path / name).write_text("0.73" * 9)
    unchanged.keep(tmp_path, "s", ["what it said"], 80)
    assert unchanged.told(tmp_path, "other") is None
    CHANGES[change](tmp_path)
    assert unchanged.told(tmp_path, "s") == ("what it said" if change == "none" else None)
