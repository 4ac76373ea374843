"""A report over a whole benchmark: 5 methods, 3 settings, 2 datasets of 10 categories, 5 seeds."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from harness.store import write_json
from harness.store.files import checksum, sealed
from reports.numbers.published import known_categories
from tests.reports.fake_store import LIMITS, build_launch

METHODS = [(name, "") for name in ("dbrn", "3dsr", "das3d", "m3dm", "shape_guided")]
SECONDS, BYTES, PAGE_BYTES = 60, 2 << 30, 20 << 20  # of one core: others may use the machine
CODE = """
import json, resource, sys, time
started = time.process_time()
from harness.store import Store
from reports.page.render import write_report
store = Store(sys.argv[1])
page = write_report(store, store.launches()[-1], sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([time.process_time() - started, peak, page.stat().st_size]))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_1500_cells_make_a_page_in_a_minute_and_2_gib(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)
    images = [("good", 22), *((f"kind_{k}", 18) for k in range(5))]
    monkeypatch.setattr("tests.reports.fake_store.TEST", images)
    cells = []
    for dataset in ("mvtec3d", "eyecandies"):
        store, launch = build_launch(
            tmp_path / "store",
            methods=METHODS,
            categories=known_categories(dataset),
            seeds=range(5),
            demo=False,
        )
        cells += [cell | {"dataset": dataset} for cell in launch["cells"]]
    for cell in cells:
        folder = store.folder(cell["key"])
        kept = np.append(
            11, np.arange(31, 112, 18)
        )  # a few maps, as a benchmark keeps them, and smooth
        maps = np.load(folder / "maps.npy").astype(np.float32)[kept]
        maps = [cv2.GaussianBlur(cv2.resize(m, (224, 224)), (0, 0), 6) for m in maps]
        np.save(folder / "maps.npy", np.array(maps, np.float16))
        ids = json.loads((folder / "maps.json").read_text())["ids"]
        (folder / "maps.json").write_text(json.dumps({"ids": [ids[i] for i in kept]}))
        fpr = np.linspace(0, 1, 1000)
        np.savez_compressed(folder / "pro_curve.npz", fpr_exact=fpr, pro_exact=fpr**0.2)
        record = json.loads((folder / "result.json").read_text())
        kept = (path for path in folder.iterdir() if path.name != "result.json")
        record["files"] = {path.name: [path.stat().st_size, checksum(path)] for path in kept}
        write_json(folder / "result.json", sealed(record))
    path = store.path / "launches" / f"{launch['id']}.json"
    path.write_text(json.dumps(launch | {"cells": cells}))
    assert len(cells) == 1500 and len(LIMITS) > 1
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(store.path), str(tmp_path / "report")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seconds, peak, size = json.loads(done.stdout)
    print(f"{seconds:.1f} CPU s, {peak / 2**20:.0f} MiB, page {size / 2**20:.1f} MiB")
    text = (tmp_path / "report" / "leaderboard.html").read_text(encoding="utf-8")
    assert text.count("<img") == 2 * 10 * 6 * (3 + 15) and "no map" not in text
    assert seconds < SECONDS and peak < BYTES and size < PAGE_BYTES
