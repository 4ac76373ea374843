"""What durable and verified results cost: syncing, checksums, kept fits.

python -m tests.benchmarks.bench_store launch [CONFIG] [KEY=VALUE]...   shares of a launch's time
python -m tests.benchmarks.bench_store view [--gb 2] [--rounds 3]       a made view against writing

The launch runs in this process, into a store that goes at the end. `publish` is the checksums and
the syncing of a job's files, `verified` reads the files of a job that another builds on, `keep`
saves a fit until its job is done. The view is plain arrays; its files are written without syncing,
published, and read back from the page cache and from the disk.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from harness.engine import job, kept
from harness.engine.driver import Driver
from harness.engine.executors import InProcess
from harness.planning import config
from harness.planning.expand import build
from harness.store import DONE, Store

BLOCK = 64 * 2**20


class Times:
    """Wall and CPU seconds by name."""

    def __init__(self) -> None:
        self.spent: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def of(self, name: str, function):
        @functools.wraps(function)
        def timed(*args, **kwargs):
            start, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - start, time.process_time() - cpu
                self.spent[name].append(took)

        return timed

    def total(self, name: str) -> tuple[float, float]:
        wall, cpu = zip(*self.spent[name]) if self.spent[name] else ((), ())
        return sum(wall), sum(cpu)


def launch(name: str, overrides: list[str]) -> None:
    times = Times()
    Store.publish = times.of("publish", Store.publish)
    Store.verified = times.of("verified", Store.verified)
    kept.keep = times.of("keep", kept.keep)
    plan = build(config.load(name, overrides))
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(
            plan, Store(folder), InProcess(times.of("jobs", job.run_job)), plan.config.schedule
        )
        summary = driver.run()
        assert set(summary.counts) == {DONE}, summary.failures[0].reason
        jobs = [Store(folder).finished(key) for key in plan.jobs]
        size = sum(s for record in jobs for s, _ in record.files.values())
    print(f"{len(jobs)} jobs, {size / 1e6:.0f} MB\n\n| | calls | wall s | share | CPU s | share |")
    print("|---|---|---|---|---|---|")
    whole = times.total("jobs")
    for part in ("jobs", "publish", "verified", "keep"):
        wall, cpu = times.total(part)
        calls = len(times.spent[part])
        print(
            f"| {part} | {calls} | {wall:.2f} | {wall / whole[0]:.2%} | {cpu:.2f} "
            f"| {cpu / whole[1]:.2%} |"
        )


def view(gigabytes: float, rounds: int) -> None:
    times, key = Times(), "0" * 16
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            store = Store(folder)
            files = times.of("write", _write)(store.work(key), int(gigabytes * 2**30))
            record = {"key": key, "status": DONE, "spec": {"kind": "view"}}
            times.of("publish", store.publish)(key, record)
            times.of("verified, in the page cache", Store(folder).verified)(key)
            for name in files:
                _drop(store.folder(key) / name)
            times.of("verified, from the disk", Store(folder).verified)(key)
    print("| | wall s | of writing | CPU s | of writing |\n|---|---|---|---|---|")
    plain = _median(times.spent["write"])
    for name, spent in times.spent.items():
        wall, cpu = _median(spent)
        print(f"| {name} | {wall:.2f} | {wall / plain[0]:.2f} | {cpu:.2f} | {cpu / plain[1]:.2f} |")


def _median(spent: list[tuple[float, float]]) -> tuple[float, float]:
    wall, cpu = zip(*spent)
    return statistics.median(wall), statistics.median(cpu)


def _write(folder: Path, size: int) -> list[str]:
    """Four files of noise, not synced."""
    block = np.random.default_rng(0).integers(0, 256, BLOCK, np.uint8)
    names = [f"{name}.npy" for name in ("rgb", "depth", "xyz", "foreground")]
    for name in names:
        with (folder / name).open("wb") as file:
            for _ in range(max(1, size // BLOCK // len(names))):
                file.write(block)
    return names


def _drop(path: Path) -> None:
    """Out of the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("launch")
    one.add_argument("what", nargs="*", default=["demo"])
    two = commands.add_parser("view")
    two.add_argument("--gb", type=float, default=2.0)
    two.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.command == "view":
        view(arguments.gb, arguments.rounds)
        return
    names = [item for item in arguments.what if "=" not in item]
    launch(names[0] if names else "demo", [item for item in arguments.what if "=" in item])


if __name__ == "__main__":
    main()
