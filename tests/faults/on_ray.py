"""Faults of launches on Ray: whole processes, so each takes a minute.

The launch is tests/harness/tiny.yaml on two workers; its undisturbed one runs without Ray.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from tests.faults.launches import ROOT, TINY
from tests.faults.scene import NotHereError, NotSurvivedError, Oracle, Scene, oracle_of, survived

LIMIT_S = 300.0  # of a launch
WORKER = "ray::"  # in the command line of a process that runs tasks; the launch must outlive it
GONE_S = (
    60.0  # until no process of a launch is left; agents of a killed Ray look for it now and then
)
SILENCE_MINUTES = 0.25  # after which a running job that says nothing is ended


class Command:
    """A command of the program as a process; like tests.faults.launches.Child."""

    def __init__(
        self,
        arguments: list[str],
        log: Path,
        program: tuple[str, ...] = (sys.executable, "-P", "-m", "harness"),
        root: Path = ROOT,
        folder: Path | None = None,
        **environment: str,
    ):
        """program: which takes the arguments, with the code of `root`; folder: the current one."""
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*program, *arguments],
                cwd=folder or root,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(root)} | environment,
            )
        self.seen: dict[int, float] = {}  # every process below it -> when it started

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def poll(self) -> int | None:
        self.seen |= {pid: started(pid) for pid in below(self.process.pid)}
        return self.code

    def wait(self, seconds: float = LIMIT_S) -> int | None:
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        return self.code

    def send(self, number: int) -> None:
        if self.poll() is None:
            self.process.send_signal(number)

    @property
    def left(self) -> list[int]:
        """Processes below it that outlive it."""
        return [pid for pid, at in self.seen.items() if at and started(pid) == at]

    def end(self) -> None:
        """Kill it and all that it started."""
        self.poll()
        for pid in [self.process.pid] * (self.code is None) + self.left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def find(self, word: str) -> list[int]:
        """Processes below it with a word in their command lines."""
        return [pid for pid in below(self.process.pid) if word in command_line(pid)]


def below(pid: int) -> list[int]:
    """All processes that a process started, directly or through others."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, fresh = [], [pid]
    while fresh:
        fresh = [child for parent in fresh for child in parents.get(parent, [])]
        found += fresh
    return found


def started(pid: int) -> float:
    """When a process started, in ticks since boot; 0 if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else float(fields[19])


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def launch(
    scene: Scene, address: str | None = None, folder: Path | None = None, **environment: str
) -> Command:
    """The launch on Ray, from the start or going on; on a Ray of its own unless by address."""
    where = ["--address", address] if address else ["--workers", "2"]
    silence = [f"schedule.silence_minutes={SILENCE_MINUTES:g}"] if has_silence() else []
    arguments = ["run", str(TINY), *silence, *where, "--tracking", "none"]
    arguments += ["--store", str(scene.store)]
    command = Command(arguments, scene.log, folder=folder, **environment)
    scene.children.append(command)
    return command


def has_silence() -> bool:
    from harness.planning.config import Schedule

    return any(field.name == "silence_minutes" for field in fields(Schedule))


def undisturbed(scene: Scene) -> Oracle:
    """The launch without Ray, made once for all; whoever comes second waits."""
    from filelock import FileLock

    folder = scene.oracle.store.parent / "tiny"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        store = folder / "store"
        if not list(store.glob("reports/*/leaderboard.csv")):
            options = ["run", str(TINY), "--serial", "--tracking", "none", "--store", str(store)]
            if Command(options, folder / "output.txt").wait() != 0:
                raise RuntimeError((folder / "output.txt").read_text()[-1000:])
    return oracle_of(store, 0.0, 0)


def part_done(scene: Scene, command: Command) -> None:
    """Wait until a launch has so many jobs done, and a moment longer."""
    jobs, seconds = scene.draw.randint(0, 3), scene.draw.random() * 2
    scene.fault.moment = f"{seconds:.1f} s after {jobs} jobs"
    until = time.monotonic() + LIMIT_S
    while len(list(scene.store.glob("jobs/*/result.json"))) < jobs:
        if command.poll() is not None or time.monotonic() > until:
            raise NotSurvivedError("stuck", f"ended with {command.code} before the fault")
        time.sleep(0.05)
    time.sleep(seconds)


def go_on(scene: Scene, started_at: float) -> None:
    """The same command until it ends well, then compare, then see that no process is left."""
    for _ in range(3):
        scene.fault.commands += 1
        if (code := scene.finished(launch(scene), LIMIT_S)) == 0:
            break
    else:
        raise NotSurvivedError("stuck", f"ends with {code}: {scene.last_line()}")
    survived(scene)
    until = time.monotonic() + GONE_S
    while left := [pid for child in scene.children for pid in child.left]:
        if time.monotonic() > until:
            names = ", ".join(command_line(pid)[:60] for pid in left)
            raise NotSurvivedError("left processes", names)
        time.sleep(0.2)
    scene.fault.moment += f", {time.monotonic() - started_at:.0f} s until the end"


def hit(word: str, number: signal.Signals) -> Callable[[Scene], None]:
    """A fault: a signal to a process of the launch (word in its command line; "" is the driver)."""

    def happen(scene: Scene) -> None:
        if number == signal.SIGSTOP and not has_silence():
            raise NotHereError("no schedule.silence_minutes: a silent job is never ended")
        scene.oracle = undisturbed(scene)
        command = launch(scene)
        part_done(scene, command)
        victims = [command.process.pid] if not word else wait_for(command, word)
        started_at = time.monotonic()
        if victims:
            os.kill(scene.draw.choice(victims), number)
        else:
            scene.fault.moment += ", which had ended"
        code = scene.finished(command, LIMIT_S)
        scene.fault.moment += f", launch ended with {code}"
        scene.fault.moment += f" after {time.monotonic() - started_at:.0f} s"
        if word == WORKER and code:
            raise NotSurvivedError("died", f"ended with {code}: {scene.last_line()}")
        if number == signal.SIGSTOP and victims:
            for pid in victims:
                if started(pid):
                    os.kill(pid, signal.SIGCONT)
        go_on(scene, started_at)

    return happen


def wait_for(command: Command, word: str, seconds: float = 60.0) -> list[int]:
    """Processes of the launch with that word; none if it ended before there were any."""
    until = time.monotonic() + seconds
    while not (found := command.find(word)) and command.poll() is None:
        if time.monotonic() > until:
            raise NotHereError(f"no process of the launch is called {word}")
        time.sleep(0.02)
    return found


def two_launches(scene: Scene) -> None:
    """Two launches on Ray at once; both must end well."""
    scene.oracle = undisturbed(scene)
    started_at = time.monotonic()
    both = [launch(scene), launch(scene)]
    codes = [scene.finished(command, LIMIT_S) for command in both]
    if any(codes):
        raise NotSurvivedError("died", f"ended with {codes}: {scene.last_line()}")
    go_on(scene, started_at)


class Cluster:
    """Nodes of a Ray cluster, all on this machine: a head and others."""

    RAY = str(Path(sys.executable).with_name("ray"))

    def __init__(self, scene: Scene):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        secret = f"{scene.draw.getrandbits(128):032x}"
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secret}
        self.environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        self.log = scene.folder / "nodes.txt"
        self.nodes: list[Command] = []

    def head(self) -> Command:
        """One CPU, and the cluster's address."""
        options = ["--head", "--node-ip-address=127.0.0.1", f"--port={self.port}"]
        return self._start(["--num-cpus=1", "--include-dashboard=false", *options])

    def node(self, *before: str, root: Path = ROOT) -> Command:
        """Two CPUs. before: what its command begins with; root: the checkout that it lives in"""
        return self._start(["--num-cpus=2", f"--address={self.address}"], before, root)

    def _start(
        self, options: list[str], before: tuple[str, ...] = (), root: Path = ROOT
    ) -> Command:
        there = self._started()
        program = (*before, self.RAY, "start", "--block")
        node = Command(options, self.log, program, root, **self.environment)
        self.nodes.append(node)
        until = time.monotonic() + 120
        while self._started() == there:
            if time.monotonic() > until or node.poll() is not None:
                raise NotHereError(f"a node did not start: {self.log.read_text()[-300:]}")
            time.sleep(0.2)
        return node

    def _started(self) -> int:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text.count("Ray runtime started")

    def end(self) -> None:
        for node in reversed(self.nodes):
            node.end()


@contextmanager
def cluster(scene: Scene, *before: str, root: Path = ROOT) -> Iterator[Cluster]:
    """A head and a node; `before` and `root` are the node's."""
    made = Cluster(scene)
    try:
        made.head()
        made.node(*before, root=root)
        yield made
    finally:
        made.end()


def without_store(scene: Scene) -> None:
    """A node sees an empty folder where the store is."""
    if os.geteuid() != 0:
        raise NotHereError("hiding a folder from a process needs root")
    scene.oracle = undisturbed(scene)
    scene.store.mkdir()
    hide = 'mount -t tmpfs relief-fault "$0" && exec "$@"'
    with cluster(scene, "unshare", "-m", "sh", "-c", hide, str(scene.store)) as at:
        finish(scene, launch(scene, at.address, **at.environment))
    if not scene.said("store"):
        raise NotSurvivedError("silent", "no output names the node's store")


def lost_node(scene: Scene) -> None:
    """A node and all that runs on it are killed; the head goes on alone."""
    scene.oracle = undisturbed(scene)
    with cluster(scene) as at:
        command = launch(scene, at.address, **at.environment)
        part_done(scene, command)
        at.nodes[1].end()
        finish(scene, command)


def lost_head(scene: Scene) -> None:
    """The head and all that runs on it are killed, and a new one starts at its address."""
    scene.oracle = undisturbed(scene)
    with cluster(scene) as at:
        command = launch(scene, at.address, **at.environment)
        part_done(scene, command)
        at.nodes[0].end()
        time.sleep(scene.draw.uniform(0.0, 20.0))
        at.nodes[1].end()  # it belongs to the old head
        at.head()
        at.node()
        finish(scene, command)


def other_node(scene: Scene) -> None:
    """A node lives in a checkout whose jobs leave a mark in their results."""
    scene.oracle = undisturbed(scene)
    with cluster(scene, root=marked_code(scene)) as at:
        finish(scene, launch(scene, at.address, **at.environment))
    see_no_mark(scene)


def other_folder(scene: Scene) -> None:
    """The current folder is such a checkout."""
    scene.oracle = undisturbed(scene)
    finish(scene, launch(scene, folder=marked_code(scene)))
    see_no_mark(scene)


def finish(scene: Scene, command: Command) -> None:
    """Let a launch end, which must end well."""
    scene.fault.commands, started_at = 1, time.monotonic()
    code = scene.finished(command, LIMIT_S)
    scene.fault.moment = f"{time.monotonic() - started_at:.0f} s until the end"
    if code:
        raise NotSurvivedError("died", f"ended with {code}: {scene.last_line()}")
    survived(scene)


def marked_code(scene: Scene) -> Path:
    """A copy of the code whose jobs put a mark into their results."""
    other = scene.folder / "other"
    for name in ("harness", "methods", "reports", "configs"):
        shutil.copytree(ROOT / name, other / name, ignore=shutil.ignore_patterns("__pycache__"))
    job = other / "harness" / "engine" / "job.py"
    text = job.read_text()
    assert '"status": DONE,' in text
    job.write_text(text.replace('"status": DONE,', '"status": DONE, "foreign": True,'))
    return other


def see_no_mark(scene: Scene) -> None:
    results = [path.read_text() for path in scene.store.glob("jobs/*/result.json")]
    if foreign := sum('"foreign": true' in text for text in results):
        raise NotSurvivedError("other code", f"{foreign} of {len(results)} jobs computed by it")


KINDS = {  # weight, what happens
    "Ray: kill driver": (3, hit("", signal.SIGKILL)),
    "Ray: Ctrl-C": (2, hit("", signal.SIGINT)),
    "Ray: SIGTERM": (2, hit("", signal.SIGTERM)),
    "Ray: kill worker": (3, hit(WORKER, signal.SIGKILL)),
    "Ray: stop worker": (2, hit(WORKER, signal.SIGSTOP)),
    "Ray: kill raylet": (2, hit("raylet/raylet", signal.SIGKILL)),
    "Ray: kill GCS": (2, hit("gcs_server", signal.SIGKILL)),
    "Ray: kill node": (2, lost_node),
    "Ray: kill head": (2, lost_head),
    "Ray: two drivers": (1, two_launches),
    "Ray: node without store": (1, without_store),
    "Ray: node of other code": (1, other_node),
    "Ray: folder of other code": (1, other_folder),
}
