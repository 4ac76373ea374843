"""One fault's place: a store, its commands, and the comparison with the undisturbed launch."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.launches import LIMIT_S, TOY, Child, each_operation

AGAIN = 3  # how often the same command is tried after a fault
VOLATILE = {"curve.csv"}  # losses are kept by the clock


@dataclass
class Oracle:
    """The undisturbed launch: what every other one must end in."""

    store: Path
    leaderboard: bytes
    files: dict[str, dict[str, list]]  # key of a job -> its files with sizes and checksums
    seconds: float
    operations: int  # changes of files that it made in the store
    bytes: int
    inodes: int


@dataclass
class Fault:
    """One fault and what came of it. moment: in words; commands: run after it, until one ended."""

    number: int
    kind: str
    moment: str = ""
    outcome: str = ""
    detail: str = ""
    commands: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        words = [f"{self.number:5d}", f"{self.kind:24s}", f"{self.outcome:18s}"]
        words.append(f"{self.seconds:5.1f} s  again={self.commands}  {self.moment}")
        return "  ".join(words) + (f"  | {self.detail}" if self.detail else "")


class NotSurvivedError(Exception):
    """A launch that did not end as it must: (outcome, detail)."""


class NotHereError(Exception):
    """A fault that cannot happen on this machine; the message says why."""


class Scene:
    """Where a fault happens: a folder of its own, with a store and the output of all commands."""

    def __init__(self, fault: Fault, folder: Path, oracle: Oracle, draw: random.Random):
        self.fault, self.folder, self.oracle, self.draw = fault, folder, oracle, draw
        self.store = folder / "store"
        self.log = folder / "output.txt"
        self.mlflow = False
        self.children: list[Child] = []

    def start(self, before: Callable[[], None] = lambda: None) -> Child:
        """The launch, from the start or going on."""
        tracking = [] if self.mlflow else ["--tracking", "none"]
        return self.command("run", str(TOY), "--serial", *tracking, before=before)

    def command(self, *arguments: str, before: Callable[[], None] = lambda: None) -> Child:
        """A command on the store."""
        child = Child([*arguments, "--store", str(self.store)], self.log, before)
        self.children.append(child)
        return child

    def finished(self, child: Child, limit_s: float = LIMIT_S) -> int:
        """Its exit status, once it ended."""
        if child.wait(limit_s) is None:
            child.end()
            raise NotSurvivedError("hangs", f"a command ran for more than {limit_s:g} s")
        return child.code

    def moment(self) -> float:
        """Seconds after the start of a launch."""
        share = self.draw.random()
        self.fault.moment = f"after {share:.0%} of a launch"
        return share * self.oracle.seconds

    def operation(self) -> int:
        """The number of a change of a file."""
        number = self.draw.randint(1, self.oracle.operations)
        self.fault.moment = f"before change {number} of {self.oracle.operations}"
        return number

    def part_done(self) -> None:
        """A store whose launch was killed at some change, or has ended."""
        if self.draw.random() < 0.5:
            shutil.copytree(self.oracle.store, self.store)
        else:
            self.finished(self.start(self.killed_at(self.operation())))

    def killed_at(self, number: int) -> Callable[[], None]:
        def act(n: int) -> None:
            if n == number:
                os.kill(os.getpid(), signal.SIGKILL)

        return each_operation(self.store, act)

    def stopped_by(self, number: int) -> None:
        """A launch that gets a signal at some moment of the clock."""
        seconds = self.moment()
        child = self.start()
        time.sleep(seconds)
        child.send(number)
        code = self.finished(child)
        self.fault.moment += f", ended with {code}"

    def go_on(self) -> None:
        """The same command until it ends well. Raises NotSurvivedError."""
        for _ in range(AGAIN):
            self.fault.commands += 1
            if (code := self.finished(self.start())) == 0:
                return
            self.fault.detail = f"the first time again: {self.last_line()}"
        raise NotSurvivedError("stuck", f"ends with {code}: {self.last_line()}")

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        wanted = [x for x in lines if re.search("error|failed|did not|Error", x)]
        return (wanted or lines or ["no output"])[-1].strip()[:300]

    def said(self, *words: str) -> bool:
        text = self.log.read_text(errors="replace")
        return any(word in text for word in words)

    def end(self) -> None:
        for child in self.children:
            child.end()


def survived(scene: Scene) -> None:
    """Compare a store with the undisturbed one. Raises NotSurvivedError."""
    from harness.store import Store

    store, oracle = Store(scene.store), scene.oracle
    there = {path.parent.name for path in scene.store.glob("jobs/*/result.json")}
    if lost := oracle.files.keys() - there:
        raise NotSurvivedError("lost", f"no result of {', '.join(sorted(lost))}")
    if more := there - oracle.files.keys():
        raise NotSurvivedError("doubled", f"also results of {', '.join(sorted(more))}")
    if left := list(scene.store.glob("work/*/result.json")):
        raise NotSurvivedError("doubled", f"a result was left in {left[0]}")
    for key in oracle.files:
        if why := store.damage(key, contents=True):
            names = [key, Path(why.split(" ")[0]).name]
            if not scene.fault.kind.startswith("damage"):
                raise NotSurvivedError("silent damage", why)
            scene.fault.detail = f"not read by the launch; a check names it: {names[-1]}"
            continue
        files = {n: list(v) for n, v in store.finished(key).files.items() if n not in VOLATILE}
        if files != oracle.files[key]:
            other = [n for n, v in oracle.files[key].items() if files.get(n) != v]
            other += sorted(files.keys() - oracle.files[key].keys())
            raise NotSurvivedError("other bytes", f"job {key}: {', '.join(other)}")
    if failed := sorted(path.name for path in scene.store.glob("failures/*.json")):
        raise NotSurvivedError("stuck", f"failures are left: {', '.join(failed)}")
    boards = list(scene.store.glob("reports/*/leaderboard.csv"))
    if [board.read_bytes() for board in boards] != [oracle.leaderboard]:
        raise NotSurvivedError("other leaderboard", f"{len(boards)} leaderboards")
    for aside in scene.store.glob("damaged/*"):
        if not scene.said(aside.name):
            raise NotSurvivedError("silent", f"{aside.name} was set aside without a word")
    if scene.said("Traceback (most recent call last)"):
        raise NotSurvivedError("traceback", "a command printed one")


def settle(scene: Scene) -> None:
    """Go on and compare while the store's file system is there."""
    scene.go_on()
    survived(scene)


def prepare(folder: Path) -> Oracle:
    """Run the undisturbed launch twice; its second time is the one that is measured."""
    folder.mkdir(parents=True)
    store, seconds = folder / "store", 0.0
    with (folder / "counted").open("wb+") as counted:

        def count(number: int) -> None:
            os.pwrite(counted.fileno(), b"%08d" % number, 0)

        for _ in range(2):
            shutil.rmtree(store, ignore_errors=True)
            started = time.monotonic()
            arguments = ["run", str(TOY), "--serial", "--tracking", "none", "--store", str(store)]
            child = Child(arguments, folder / "output.txt", each_operation(store, count))
            if child.wait() != 0:
                raise RuntimeError(f"the undisturbed launch ended with {child.code}: {child.log}")
            seconds = time.monotonic() - started
        operations = int(os.pread(counted.fileno(), 8, 0))
    return oracle_of(store, seconds, operations)


def oracle_of(store: Path, seconds: float, operations: int) -> Oracle:
    """What an undisturbed launch left in a store."""
    from harness.store import Store

    sound = Store(store)
    files = {}
    for path in store.glob("jobs/*/result.json"):
        known = sound.verified(path.parent.name).files
        files[path.parent.name] = {n: list(v) for n, v in known.items() if n not in VOLATILE}
    paths = list(store.rglob("*"))
    return Oracle(
        store,
        next(store.glob("reports/*/leaderboard.csv")).read_bytes(),
        files,
        seconds,
        operations,
        sum(-(-p.stat().st_size // 4096) * 4096 for p in paths if p.is_file()),
        len(paths),
    )
