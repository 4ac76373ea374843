"""Faults by the thousand: whatever happens to a launch, the same command ends it in the same bytes.

    python -m tests.faults.campaign --count 1000 --seed 0 --minutes 25 --jobs 2 --out DIR

A fault is a kind and a moment, both drawn by seed: fault 17 of seed 0 is the same one every time,
as far as the moment is one of the program's and not of the clock. It hits a launch of a second
(tests/faults/launch.yaml); then the same command runs until it ends with 0, three times at most.
Then the store must hold every job of an undisturbed launch once, each with the same files, and
the leaderboard the same bytes; no output may have a traceback; damage that the leaderboard could
show must be named. One line a fault, a tally at the end; DIR has all of it as JSON, and the store
and output of each fault that was not survived.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.faults import mounts
from tests.faults.kinds import KINDS, MOUNTING, ON_RAY
from tests.faults.launches import warm
from tests.faults.scene import (
    Fault,
    NotHereError,
    NotSurvivedError,
    Oracle,
    Scene,
    prepare,
    settle,
)

SAME, NOT_HERE = "survived", "not possible here"


def suffer(number: int, kind: str, seed: int, oracle: Oracle, folder: Path) -> Fault:
    """Let one fault happen, and judge it; what was not survived stays in `folder`."""
    fault, started = Fault(number, kind), time.monotonic()
    if kind in MOUNTING and (why := mounts.why_not()):
        fault.outcome, fault.detail = NOT_HERE, why
        return fault
    folder.mkdir(parents=True)
    scene = Scene(fault, folder, oracle, random.Random(f"{seed} {number} {kind}"))
    try:
        KINDS[kind][1](scene)
        if kind not in MOUNTING and kind not in ON_RAY:
            settle(scene)
        fault.outcome = SAME
    except NotHereError as error:
        fault.outcome, fault.detail = NOT_HERE, str(error)
    except NotSurvivedError as error:
        fault.outcome, fault.detail = error.args
    except Exception as error:  # of the campaign itself: told as such, the next fault comes
        fault.outcome, fault.detail = "campaign's error", f"{type(error).__name__}: {error}"
        (folder / "error.txt").write_text(traceback.format_exc())
    finally:
        scene.end()
    fault.seconds = time.monotonic() - started
    if fault.outcome in (SAME, NOT_HERE):
        shutil.rmtree(folder, ignore_errors=True)
    return fault


def drawn(count: int, seed: int, kinds: list[str]) -> list[str]:
    """The kinds of the faults in their order: each by its weight, spread over the whole."""
    total = sum(KINDS[kind][0] for kind in kinds)
    shares = {kind: count * KINDS[kind][0] / total for kind in kinds}
    found = [kind for kind in kinds for _ in range(int(shares[kind]))]
    rest = sorted(kinds, key=lambda kind: shares[kind] % 1, reverse=True)
    found += rest[: count - len(found)]
    random.Random(seed).shuffle(found)
    return found


def campaign(
    count: int, seed: int, minutes: float, jobs: int, out: Path, kinds: list[str]
) -> Iterator[Fault]:
    """Faults as they are over, from `jobs` processes; no new one after `minutes`."""
    warm()
    scratch = Path(tempfile.mkdtemp(prefix="faults-", dir=_fast()))
    try:
        oracle = prepare(scratch / "undisturbed")
        plan, until = drawn(count, seed, kinds), time.monotonic() + 60 * minutes
        ends = []
        for lane in range(jobs):
            reader, writer = os.pipe()
            if os.fork() == 0:
                code = 1
                try:
                    os.close(reader)
                    for number in range(lane, count, jobs):
                        if time.monotonic() > until:
                            break
                        place = scratch / f"{number:05d}"
                        fault = suffer(number, plan[number], seed, oracle, place)
                        if place.exists():
                            shutil.copytree(place, out / place.name, symlinks=True)
                            shutil.rmtree(place)
                        os.write(writer, (json.dumps(asdict(fault)) + "\n").encode())
                    code = 0
                finally:
                    os._exit(code)
            os.close(writer)
            ends.append(reader)
        yield from (Fault(**json.loads(line)) for line in _lines(ends))
        for _ in range(jobs):
            os.wait()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fast() -> str | None:
    """Memory, where there is plenty: most faults leave durability to the kernel, which lives."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > 4 * 2**30
    return str(shared) if roomy else None


def _lines(ends: list[int]) -> Iterator[str]:
    """Lines from pipes, as they come, until all are closed."""
    rest = dict.fromkeys(ends, b"")
    while rest:
        for end in select.select(list(rest), [], [])[0]:
            found = os.read(end, 2**16)
            if not found:
                del rest[end]
                os.close(end)
                continue
            *lines, rest[end] = (rest[end] + found).split(b"\n")
            yield from (line.decode() for line in lines)


def tally(faults: list[Fault]) -> str:
    """Kinds x outcomes, as text."""
    outcomes = sorted({f.outcome for f in faults}, key=lambda o: (o != SAME, o))
    counts = Counter((f.kind, f.outcome) for f in faults)
    rows = [["kind", *outcomes, "all"]]
    for kind in sorted({f.kind for f in faults}):
        row = [counts[kind, outcome] for outcome in outcomes]
        rows.append([kind, *map(str, row), str(sum(row))])
    sums = [sum(f.outcome == outcome for f in faults) for outcome in outcomes]
    rows.append(["all", *map(str, sums), str(len(faults))])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=25.0, help="no new fault after these")
    parser.add_argument("--jobs", type=int, default=2, help="faults at once")
    parser.add_argument(
        "--out", type=Path, default=Path("relief-faults"), help="folder of what is found"
    )
    parser.add_argument("--kinds", default=",".join(KINDS), help="some of them, with commas")
    given = parser.parse_args(arguments)
    kinds = given.kinds.split(",")
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"unknown kinds {', '.join(unknown)}; known: {', '.join(KINDS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    started, faults = time.monotonic(), []
    for fault in campaign(
        given.count, given.seed, given.minutes, given.jobs, given.out.resolve(), kinds
    ):
        faults.append(fault)
        print(fault.line(), flush=True)
    bad = [f for f in faults if f.outcome not in (SAME, NOT_HERE)]
    text = tally(faults)
    print(f"\n{text}\n\n{len(faults)} faults in {(time.monotonic() - started) / 60:.1f} min")
    print(f"{len(bad)} not survived" + (f"; their stores are in {given.out}" if bad else ""))
    report = {"seed": given.seed, "faults": [asdict(f) for f in faults], "tally": text}
    (given.out / "campaign.json").write_text(json.dumps(report, indent=1) + "\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
