"""ASHA inside trainings beside ASHA over whole cells: training steps for the best of 16 points.

python -m tests.benchmarks.bench_early [--repetitions 3]

Both search the same points (the same seeds) with one job at a time; the unchanged settings are not
counted. The second search takes from the store what the first has finished, and is counted as if it
had trained all its cells itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.store import DONE, Store
from harness.store.sweeps import DEFAULT, SweepFolder

SWEEP = Path(__file__).with_name("early.yaml")
METRIC, STEPS = "aupro_0.3", 50


def searched(store: Path, seed: int, looks: bool) -> list[dict]:
    """The trials of one sweep, without that of the unchanged settings."""
    before = set(store.glob("sweeps/*"))
    command = [
        *(sys.executable, "-m", "harness", "sweep", str(SWEEP), "--workers", "1"),
        *("--store", str(store), "--tracking", "none", f"das3d.train.steps={STEPS}"),
        *(f"search.seed={seed}", f"seeds=[{seed}]", f"early.looks={str(looks).lower()}"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (path,) = set(store.glob("sweeps/*")) - before
    trials = SweepFolder(Store(store), path.name).trials()
    return [trial for trial in trials if trial["id"] != DEFAULT]


def told(seed: int, name: str, trials: list[dict], steps: float) -> None:
    done = [trial for trial in trials if trial["status"] == DONE]
    best = max(trial["means"][METRIC] for trial in done)
    print(f"{seed:4}  {name:12}  {len(done):5} of {len(trials):3}  {steps:6.0f}  {best:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    repetitions = parser.parse_args().repetitions
    print(f"seed  asha          whole trials   steps  best {METRIC}")
    for seed in range(repetitions):
        with tempfile.TemporaryDirectory() as store:
            inside, whole = (searched(Path(store), seed, looks) for looks in (True, False))
        steps = sum(trial["effort"]["steps"] for trial in inside)
        all_steps = STEPS * sum(len(trial["cells"]) for trial in whole)
        told(seed, "over cells", whole, all_steps)
        told(seed, "inside", inside, steps)
        print(f"{seed:4}  steps: {steps / all_steps:.2f} of those over cells", flush=True)


if __name__ == "__main__":
    main()
