"""What a benchmark cost: every job that its results rest on, once."""

import pytest

from harness.store import Store
from reports.numbers.cost import cost_frame, hours_frame
from reports.numbers.frame import read_results, results_frame
from reports.page.render import write_report

SMALL = {
    "methods": [("das3d", ""), ("m3dm", "")],
    "settings": ["rgb"],
    "seeds": [0],
    "arrays": False,
}


def publish(store, key, kind, seconds, gpus, needs=(), twin=None, **spec):
    store.publish(
        key,
        {
            "key": key,
            "kind": kind,
            "status": "done",
            "timings": {"total_s": seconds},
            "spec": {"kind": kind, "needs": {f"need:{n}": n for n in needs}, **spec},
            "environment": {"device": "cuda" if gpus else "cpu", "cpus": 2, "gpus": gpus},
        }
        | ({"twin": twin} if twin else {}),
    )


def test_hours_count_shared_work_once_and_weigh_it_by_what_it_had(tmp_path):
    store, cells = Store(tmp_path), []
    publish(store, "d", "dataset", 360, 0)
    publish(store, "v", "view", 720, 0, ["d"])
    publish(store, "s", "stage", 3600, 0.5, ["v"], method="m3dm")
    for seed in range(3):
        publish(store, f"c{seed}", "cell", 1800, 1, ["v", "s"], method="m3dm", seed=seed)
        cells.append(f"c{seed}")
    failed = store.fail("f", {"status": "failed", "spec": {}})
    results = {key: store.result(key) for key in cells} | {"f": failed}
    table = hours_frame(store, results)
    assert table[["work", "method", "jobs"]].to_numpy().tolist() == [
        ["made datasets", "", 1],
        ["views", "", 1],
        ["stages", "m3dm", 1],
        ["cells", "m3dm", 3],
    ]
    assert table["hours"].tolist() == pytest.approx([0.1, 0.2, 1.0, 1.5])
    assert table["cpu_hours"].tolist() == pytest.approx([0.2, 0.4, 2.0, 3.0])
    assert table["gpu_hours"].tolist() == pytest.approx([0, 0, 0.5, 1.5])
    assert hours_frame(store, {}).empty


def test_hours_hold_the_view_whose_files_another_shares(tmp_path):
    store = Store(tmp_path)
    publish(store, "twin", "view", 720, 0)
    publish(store, "v", "view", 36, 0, twin="twin")
    publish(store, "c", "cell", 1800, 1, ["v"], method="shape_guided")
    table = hours_frame(store, {"c": store.result("c")})
    assert table["jobs"].tolist() == [2, 1]
    assert table["hours"].tolist() == pytest.approx([0.21, 0.5])


def test_throughput_is_images_by_the_time_to_predict_them(build):
    counts = {"counts": {"test": 42}, "timings": {"predict_s": 2.1, "total_s": 90.0}}
    store, launch = build(**SMALL, troubles={("m3dm",): counts})
    table = cost_frame(results_frame(store, launch)).set_index("method")
    assert table["throughput"]["m3dm"] == pytest.approx(20)
    assert table["throughput"].isna()["das3d"]


def test_the_page_shows_preprocessing_operations_and_hours_where_they_were_measured(
    build, tmp_path
):
    measured = {
        "speed": {"latency_p50_s": 0.01, "preprocess_p50_s": 0.25, "end_to_end_p50_s": 0.26},
        "sizes": {"parameters": 1_000_000, "macs": 7_650_000_000},
    }
    store, launch = build(**SMALL, troubles={(): measured})
    text = write_report(store, launch, tmp_path).read_text(encoding="utf-8")
    for shown in ("End to end", ">260</td>", "MACs", ">7.65</td>"):
        assert shown in text
    assert "No result holds: throughput in batches, size of memory banks, peak GPU memory." in text
    assert read_results(store, launch) and "Hours of the whole benchmark: 0.100" in text
