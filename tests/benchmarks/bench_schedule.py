"""What the driver costs a job, and how well its order fills GPUs.

python -m tests.benchmarks.bench_schedule ray [--jobs 1000] [--workers 2]   against bare Ray tasks
python -m tests.benchmarks.bench_schedule jobs [--jobs 1000 10000 100000]   its own CPU time a job
python -m tests.benchmarks.bench_schedule known [--jobs 20000]              passing over known cells
python -m tests.benchmarks.bench_schedule order [CONFIG] [--data DIR]       plan order, longest path

`jobs` are empty ones in this process, one cell in ten ready at the start, the others behind views
and stages; results are believed, since what they cost on disk is another matter. `known` writes
cells of six files each and asks a fresh store for those that are not done, with the index and
without. `order` simulates the jobs of a configuration on 1 to 64 GPUs, eight CPU
cores and 64 GiB for each; without --data on MVTec 3D-AD's listing alone, seen by name.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from harness.engine.driver import Driver
from harness.engine.executors import InProcess
from harness.engine.on_ray import OnRay
from harness.planning.config import Schedule
from harness.store import DONE, SCHEMA, Record, Store
from harness.store.files import sealed
from harness.store.index import FILE
from harness.store.records import RESULT
from tests.harness import toy


class Believing(Store):
    """Takes a job as done once it has begun: what results cost on disk is another matter."""

    begun: frozenset[str] = frozenset()

    def done(self, key: str) -> bool:
        return key in self.begun

    def finished(self, key: str) -> Record:
        return Record.of({"schema": SCHEMA, "status": DONE}, self.folder(key))


def through_the_driver(task, jobs: list, executor) -> tuple[float, float]:
    """Wall and CPU seconds of this process."""
    with tempfile.TemporaryDirectory() as folder:
        store = Believing(folder)
        close, executor.close = executor.close, lambda: None  # stopping Ray is no job's cost
        start, cpu = time.perf_counter(), time.process_time()
        driver = Driver(toy.plan(*jobs), store, executor, Schedule())
        store.begun = frozenset(driver.queue.waiting)
        assert driver.run().counts == {DONE: len(jobs)}
        spent = time.perf_counter() - start, time.process_time() - cpu
        close()
        return spent


def warm_up(executor: OnRay) -> None:
    """Workers started and the task's modules imported, in every worker."""
    for i in range(8):
        job = toy.job(f"warm {i}")
        executor.submit(job, tempfile.gettempdir(), 1)
    while executor.refs:
        executor.poll(1.0)


def bare_ray(jobs: list, workers: int) -> tuple[float, float]:
    executor = OnRay(cpus=workers, gpus=0, task=toy.nothing)
    ray, remote = executor.ray, executor.shared.options(num_cpus=1)
    warm_up(executor)
    described = [job.describe() for job in jobs]
    start, cpu, pending = time.perf_counter(), time.process_time(), []
    for job in described:
        pending.append(remote.remote(job, "", 1))
        if len(pending) >= 2 * workers:
            ready, pending = ray.wait(pending, num_returns=1)
            ray.get(ready)
    ray.get(pending)
    spent = time.perf_counter() - start, time.process_time() - cpu
    executor.close()
    return spent


def on_ray(count: int, workers: int) -> None:
    jobs = [toy.job(f"job {i}") for i in range(count)]
    bare = bare_ray(jobs, workers)
    executor = OnRay(cpus=workers, gpus=0, task=toy.nothing)
    warm_up(executor)
    ours = through_the_driver(toy.nothing, jobs, executor)
    print(f"| {count} empty jobs, {workers} workers | ms a job | CPU ms of the driver a job |")
    print("|---|---|---|")
    for name, (wall, cpu) in {"bare Ray tasks": bare, "through the driver": ours}.items():
        print(f"| {name} | {1000 * wall / count:.2f} | {1000 * cpu / count:.2f} |")


def layers(count: int) -> list:
    """A DAG as benchmarks are: views, stages that need some of them, cells that need both."""
    views = [toy.job(f"view {i}") for i in range(max(1, count // 50))]
    stages = [
        toy.job(f"stage {i}", needs=tuple(views[i % len(views) :][:10]))
        for i in range(max(1, count // 20))
    ]
    cells = []
    for i in range(count - len(views) - len(stages)):
        needs = (views[i % len(views)], stages[i % len(stages)])
        cells.append(toy.job(f"cell {i}", needs=needs[: i % 3]))
    return views + stages + cells


def in_process(counts: list[int]) -> None:
    print(
        "| jobs | CPU ms of the driver a job | peak memory, MB | above imports |\n|---|---|---|---|"
    )
    before = _peak_mb()
    for count in counts:
        _, cpu = through_the_driver(toy.nothing, layers(count), InProcess(toy.nothing))
        peak = _peak_mb()
        print(
            f"| {count} | {1000 * cpu / count:.3f} | {peak:.0f} | {peak - before:.0f} |", flush=True
        )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def known(count: int) -> None:
    """Cells with the files that they have; small ones, and not put on disk one by one."""
    names = ("scores.parquet", "maps.npy", "maps.json", "pro_curve.npz", "curve.csv")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        plan = toy.plan(*(toy.job(f"cell {i}") for i in range(count)))
        for key, job in plan.jobs.items():
            place = Path(folder, "jobs", key)
            place.mkdir(parents=True)
            for name in names:
                (place / name).write_bytes(b"0123456789")
            record = {
                "schema": SCHEMA,
                "key": key,
                "kind": "cell",
                "status": DONE,
                "spec": job.spec | {"settings": {"width": 8}},
                "files": {name: [10, "0" * 16] for name in names},
                "timings": {"total_s": 1.0},
            }
            (place / RESULT).write_bytes(_json(sealed(record)))
        print(f"| {count} known cells | CPU s | cells a second |\n|---|---|---|")
        for name in ("records read", "with the index"):
            cpu = time.process_time()
            assert not plan.pending(Store(folder))
            spent = time.process_time() - cpu
            print(f"| {name} | {spent:.2f} | {count / spent:,.0f} |")
        print(f"\nindex: {Path(folder, FILE).stat().st_size / count:.0f} bytes a cell")


def _json(value: dict) -> bytes:
    import json

    return json.dumps(value).encode()


# what a full benchmark needs and a machine without data and weights does not have
MADE = (
    "das3d.texture.source=auto",
    "dbrn.texture.source=auto",
    "3dsr.dada.images.source=auto",
    "3dsr.rgb.dada.images.source=auto",
    "m3dm.weights={rgb: random-init, point: random-init}",
    "shape_guided.weights={rgb: random-init}",
)


def listing(folder: Path) -> Path:
    """MVTec 3D-AD by name: all its files, and nothing in them. Plans read no more."""
    from harness.data.mvtec3d import CATEGORIES, published

    for category in CATEGORIES:
        for split, kinds in (published(category) or {}).items():
            for kind, count in kinds.items():
                for part, suffix in (("rgb", "png"), ("xyz", "tiff"), ("gt", "png")):
                    place = folder / "mvtec3d" / category / split / kind / part
                    place.mkdir(parents=True)
                    for i in range(count):
                        (place / f"{i:03d}.{suffix}").touch()
    return folder / "mvtec3d"


def order(name: str, data: str | None, gpus: list[int]) -> None:
    from harness.planning import config
    from harness.planning.costs import expected, forecast
    from harness.planning.expand import build
    from harness.planning.makespan import bounds, makespan, simulate
    from harness.planning.room import Offer

    with tempfile.TemporaryDirectory() as folder:
        data = data or str(listing(Path(folder)))
        plan = build(config.load(name, MADE, data=data))
    jobs = list(plan.jobs.values())
    seconds, longest = expected(jobs, forecast(plan, ()))
    print(f"{len(jobs)} jobs, {len(plan.cells)} cells\n")
    print("| GPUs | least, h | plan order, h | over least | longest path first, h | over least |")
    print("|---|---|---|---|---|---|")
    for count in gpus:
        offers = [Offer(64, 8, 512.0)] * (count // 8) or [Offer(8 * count, count, 64.0 * count)]
        found = {
            n: simulate(jobs, seconds, offers, r) for n, r in (("plan", {}), ("path", longest))
        }
        least = bounds(found["plan"], offers).least
        spans = [makespan(found[n]) for n in ("plan", "path")]
        cells = [f"{s / 3600:.1f} | {s / least - 1:.1%}" for s in spans]
        print(f"| {count} | {least / 3600:.1f} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    ray = commands.add_parser("ray")
    ray.add_argument("--jobs", type=int, default=1000)
    ray.add_argument("--workers", type=int, default=2)
    jobs = commands.add_parser("jobs")
    jobs.add_argument("--jobs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    cells = commands.add_parser("known")
    cells.add_argument("--jobs", type=int, default=20_000)
    plans = commands.add_parser("order")
    plans.add_argument("config", nargs="?", default="benchmark")
    plans.add_argument("--data")
    plans.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    arguments = parser.parse_args()
    if arguments.command == "ray":
        on_ray(arguments.jobs, arguments.workers)
    elif arguments.command == "jobs":
        in_process(arguments.jobs)
    elif arguments.command == "known":
        known(arguments.jobs)
    else:
        order(arguments.config, arguments.data, arguments.gpus)


if __name__ == "__main__":
    main()
