"""What is shown of a launch while it runs."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.cli.display import Display
from harness.engine.driver import Event
from harness.store import DONE, Record

OWN = {"i_auroc": 0.9, "aupro_0.3": 0.677}
COMMON = {"i_auroc": 0.9, "aupro_0.3": 0.691}


@pytest.mark.parametrize(
    "protocols, shown", [({"common": {"metrics": COMMON}}, "69.1"), ({}, "67.7")]
)
def test_the_line_of_a_cell_has_the_values_of_the_table_after_it(protocols, shown):
    values = {"metrics": OWN, "protocols": protocols, "timings": {"total_s": 3.0}}
    out = io.StringIO()
    display = Display(Console(file=out, width=120), 1, "demo")
    job = SimpleNamespace(title="das3d rgb cookie 0")
    display.listen(Event(DONE, job, Record(values, Path())))
    assert (
        f"1/1 done das3d rgb cookie 0 I-AUROC 90.0 %, AUPRO@0.3 {shown} %, 3.0 s" in out.getvalue()
    )


def test_no_number_of_the_live_display_is_cut_in_80_columns():
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    display = Display(console, 1234, "benchmark")
    display.expect(7300.0)
    progress = {"phase": "train", "step": 19249, "total": 20000, "loss": 0.199, "seconds_left": 99}
    job = SimpleNamespace(title="das3d untrained rgb+3d synthetic cookie 0")
    display.tick({"a": SimpleNamespace(job=job, progress=progress)})
    console.print(display.bars)
    text = " ".join(out.getvalue().split())
    assert "…" not in text and "19249/20000" in text and "0/1234" in text and "0:00:00" in text
    assert "about 2.0 h left" in text
