"""What happens to launches: each kind does its worst to a scene.

Those that need a file system of their own settle the scene while it is there; after the others the
campaign does.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from tests.faults import mounts, on_ray
from tests.faults.launches import POLL_S, each_operation
from tests.faults.scene import NotSurvivedError, Scene, settle


def kill(scene: Scene) -> None:
    """SIGKILL of the driver at a moment of the clock."""
    scene.stopped_by(signal.SIGKILL)


def kill_at_change(scene: Scene) -> None:
    """SIGKILL of the driver between two changes of files."""
    scene.finished(scene.start(scene.killed_at(scene.operation())))


def kill_twice(scene: Scene) -> None:
    """SIGKILL of the driver, and of the one that goes on."""
    kill_at_change(scene)
    first = scene.fault.moment
    kill_at_change(scene)
    scene.fault.moment = f"{first}, then {scene.fault.moment}"


def interrupt(scene: Scene) -> None:
    """Ctrl-C."""
    scene.stopped_by(signal.SIGINT)


def terminate(scene: Scene) -> None:
    """SIGTERM."""
    scene.stopped_by(signal.SIGTERM)


def pause(scene: Scene) -> None:
    """The driver is stopped; the same command starts beside it; then the driver goes on."""
    seconds = scene.moment()
    first = scene.start()
    time.sleep(seconds)
    first.send(signal.SIGSTOP)
    second = scene.start()
    time.sleep(0.3)
    first.send(signal.SIGCONT)
    codes = scene.finished(first), scene.finished(second)
    if any(codes):
        raise NotSurvivedError("died", f"ended with {codes}: {scene.last_line()}")


def read_only(scene: Scene) -> None:
    """The file system turns read-only, and is made writable later."""
    with mounts.Ram(scene.store) as disk:
        seconds = scene.moment()
        child = scene.start()
        time.sleep(seconds)
        while child.poll() is None and not disk.read_only():
            time.sleep(POLL_S)
        scene.finished(child)
        disk.writable()
        settle(scene)


def full_disk(scene: Scene) -> None:
    """The disk has too few bytes, and is larger later."""
    size = int(scene.draw.uniform(0.02, 1.0) * scene.oracle.bytes)
    scene.fault.moment = f"at {size} of {scene.oracle.bytes} bytes"
    with mounts.Ram(scene.store, size=size) as disk:
        code = scene.finished(scene.start())
        if code and not scene.said("disk", "space"):
            raise NotSurvivedError("silent", f"ended with {code}: {scene.last_line()}")
        disk.grow(size=2**30)
        settle(scene)


def no_inodes(scene: Scene) -> None:
    """The disk has too few inodes, and more later."""
    number = scene.draw.randint(2, scene.oracle.inodes)
    scene.fault.moment = f"at {number} of {scene.oracle.inodes} inodes"
    with mounts.Ram(scene.store, nr_inodes=number) as disk:
        code = scene.finished(scene.start())
        if code and not scene.said("disk", "space"):
            raise NotSurvivedError("silent", f"ended with {code}: {scene.last_line()}")
        disk.grow(nr_inodes=10**6)
        settle(scene)


def io_error(scene: Scene) -> None:
    """Syncing a file fails with EIO, once or from then on."""
    number, lasting = scene.draw.randint(1, scene.oracle.operations // 2), scene.draw.random() < 0.5
    scene.fault.moment = f"at sync {number}{' and ever after' if lasting else ''}"

    def arm() -> None:
        sync, seen = os.fsync, 0

        def failing(handle: int) -> None:
            nonlocal seen
            seen += 1
            if seen == number or (lasting and seen > number):
                raise OSError(5, "Input/output error")
            sync(handle)

        os.fsync = failing

    scene.finished(scene.start(arm))


def power(scene: Scene) -> None:
    """The power goes at a moment of the clock or between two changes of files."""
    commit_s = scene.draw.choice((1, 5))
    with mounts.Disk(scene.store, commit_s) as disk:
        if scene.draw.random() < 0.5:
            number = scene.operation()

            def act(n: int) -> None:
                if n == number:
                    disk.cut()
                    os.kill(os.getpid(), signal.SIGKILL)

            scene.finished(scene.start(each_operation(scene.store, act)))
        else:
            seconds = scene.moment()
            child = scene.start()
            time.sleep(seconds)
            disk.cut()
            child.end()
        disk.power_up()
        settle(scene)


def two_drivers(scene: Scene) -> None:
    """Two launches of the same at once, with MLflow; both must end well."""
    scene.mlflow = True
    apart = scene.draw.random() * 0.5 * scene.oracle.seconds
    scene.fault.moment = f"{apart:.2f} s apart"
    first = scene.start()
    time.sleep(apart)
    codes = scene.finished(scene.start()), scene.finished(first)
    if any(codes):
        raise NotSurvivedError("died", f"ended with {codes}: {scene.last_line()}")
    if scene.said("MLflow is not up to date"):
        raise NotSurvivedError("MLflow failed", scene.last_line())


def three_reports(scene: Scene) -> None:
    """Three reports of a store at once; all must end well."""
    shutil.copytree(scene.oracle.store, scene.store)
    shutil.rmtree(scene.store / "reports")
    children = [scene.command("report") for _ in range(3)]
    codes = [scene.finished(child) for child in children]
    if any(codes):
        raise NotSurvivedError("died", f"ended with {codes}: {scene.last_line()}")


def files_of(store: Path) -> dict[str, list[Path]]:
    """Every kind of file in a store -> those of it."""
    found = defaultdict(list)
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        parts = path.relative_to(store).parts
        if parts[0] in ("locks", "damaged"):
            continue
        name = path.name if parts[0] in ("jobs", "work") else f"*{path.suffix}"
        if re.fullmatch(r"\d+", path.stem):  # of a dataset's samples
            name = f"{path.parent.name}/*{path.suffix}"
        found[f"{parts[0]}: {name}"].append(path)
    return dict(found)


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "gone": lambda path, draw: path.unlink(),
    "empty": lambda path, draw: path.write_bytes(b""),
    "cut short": lambda path, draw: os.truncate(path, path.stat().st_size // 2),
    "flipped bit": lambda path, draw: _flip(path, draw),
    "zeros": lambda path, draw: path.write_bytes(bytes(path.stat().st_size)),
    "other text": lambda path, draw: path.write_text("null"),
    "empty object": lambda path, draw: path.write_text("{}"),
    "longer": lambda path, draw: path.write_bytes(path.read_bytes() + b"more"),
}


def _flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def damage(scene: Scene) -> None:
    """A file of a store is damaged, of a launch that has ended or was killed."""
    scene.part_done()
    kinds = files_of(scene.store)
    if not kinds:  # so early a kill left nothing to damage
        scene.fault.kind = "kill at a change"
        return
    kind = scene.draw.choice(sorted(kinds))
    path = scene.draw.choice(kinds[kind])
    way = scene.draw.choice(sorted(DAMAGES))
    DAMAGES[way](path, scene.draw)
    name = path.relative_to(scene.store).as_posix()
    scene.fault.moment = f"{name} {way}" + (f" ({scene.fault.moment})" * bool(scene.fault.moment))
    scene.fault.kind = f"damage: {way}"


KINDS: dict[str, tuple[int, Callable[[Scene], None]]] = {  # weight, what happens
    "kill": (170, kill),
    "kill at a change": (170, kill_at_change),
    "kill twice": (60, kill_twice),
    "Ctrl-C": (60, interrupt),
    "SIGTERM": (60, terminate),
    "stopped driver": (20, pause),
    "power": (100, power),
    "full disk": (50, full_disk),
    "no inodes": (30, no_inodes),
    "read-only": (40, read_only),
    "EIO": (40, io_error),
    "damage": (150, damage),
    "two drivers": (20, two_drivers),
    "three reports": (10, three_reports),
} | on_ray.KINDS
ON_RAY = set(on_ray.KINDS)
MOUNTING = {"power", "full disk", "no inodes", "read-only"}
