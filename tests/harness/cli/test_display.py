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
