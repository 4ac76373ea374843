"""What commands cost that compute nothing: CPU seconds and peak memory of the whole process.

    python -m tests.benchmarks.bench_shell [--before CHECKOUT]

makes a small store with one run (half a minute), then starts each command three times after one
that counts for nothing, and prints the best: with `--before` in turns with those of an earlier
checkout. CPU seconds are the user's and the system's, of the process and its children (wait4), so
they are comparable on a machine that others use, too; such load still stretches them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = "tests/harness/tiny.yaml"
MADE = "methods=[das3d,das3d/untrained,baseline]"
FIVE = "methods=[dbrn,3dsr,das3d,m3dm,shape_guided,baseline]"
COMMANDS = (
    "--help",
    "--version",
    "run --help",
    "run --sotre X",
    "plan methods=[dass3d]",
    f"plan {FIVE} --store STORE",
    f"plan {TINY} {MADE} --store STORE",
    "status --store STORE",
    "studies list",
    "list methods",
    "list variants",
    "list sweeps",
    "list settings das3d",
    "list weights",
    "list metrics",
    "weights list",
    "models --store STORE",
    "store check --store STORE",
    "doctor",
    "report --store STORE",
    f"run {TINY} {MADE} --store STORE",
)


TURNS = 3


def measured(arguments: list[str], root: Path = ROOT) -> tuple[float, float, int]:
    """CPU seconds, peak MB and exit code of `relief` with these. root: the checkout it is of"""
    code = "import sys; from harness.cli.entry import main; sys.argv[0] = 'relief'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = used.ru_utime + used.ru_stime
    return seconds, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", help="one that is there, made by the run above")
    parser.add_argument("--only", default="", help="commands that begin so")
    parser.add_argument("--before", type=Path, help="an earlier checkout, to compare with")
    given = parser.parse_args()
    roots = {"before": given.before.resolve()} if given.before else {}
    roots["now"] = ROOT
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or folder
        if not given.store:
            measured(["run", TINY, MADE, "--serial", "--store", store])
        print(f"| `relief` | {' | '.join(roots)} | exit code |\n|---|{'---|' * len(roots)}---|")
        for command in COMMANDS:
            if not command.startswith(given.only):
                continue
            arguments = [store if part == "STORE" else part for part in command.split()]
            turns = [[measured(arguments, at) for at in roots.values()] for _ in range(1 + TURNS)]
            best = [min(of) for of in zip(*turns[1:])]
            cells = " | ".join(f"{seconds:.2f} s, {memory:.0f} MB" for seconds, memory, _ in best)
            print(f"| `{command}` | {cells} | {best[-1][2]} |", flush=True)


if __name__ == "__main__":
    main()
