"""Jobs that do next to nothing, for tests of the driver: spec["do"] says what."""

import os
import time
from pathlib import Path

from harness.engine.outcomes import BROKEN, Outcome
from harness.planning.config import Config
from harness.planning.jobs import Job, Resources
from harness.planning.plan import Plan
from harness.store import DONE, FAILED, OUT_OF_MEMORY, Store


def task(job: dict, store_path: str, attempt: int) -> Outcome:
    store, key, do = Store(store_path), job["key"], job["spec"]["do"]
    with store.lock(key):
        if store.done(key):
            return Outcome(key, DONE)
        with open(store.path / "ran.txt", "a") as f:
            f.write(f"{job['title']} {attempt} {job['resources']['memory_gb']:g}\n")
        if do == "raise":
            return Outcome(key, FAILED, "ValueError: as asked")
        if (do == "crash once" and attempt == 1) or do == "crash":
            os._exit(1)
        if do == "broken once":  # in one process; another one computes it
            first = store.path / "broken.txt"
            if not first.exists():
                first.write_text(str(os.getpid()))
            if first.read_text() == str(os.getpid()):
                return Outcome(key, BROKEN, "as asked")
        if do == "exit":
            raise SystemExit(0)
        if do == "hungry" and attempt == 1:
            return Outcome(key, OUT_OF_MEMORY, "MemoryError")
        if do == "hang":
            from harness.store import write_json

            write_json(
                store.work(key) / "progress.json",
                {"started": time.time(), "phase": "hang", "step": 0, "total": 1},
            )
            time.sleep(600)
        publish(store, job, attempt)
        return Outcome(key, DONE)


def nothing(job: dict, store_path: str, attempt: int) -> Outcome:
    return Outcome(job["key"], DONE)


def where(job: dict, store_path: str, attempt: int) -> Outcome:
    """Writes down which installation it runs in."""
    import harness
    import methods

    Path(store_path, "ran.txt").write_text(f"{harness.__file__}\n{methods.__file__}\n")
    publish(Store(store_path), job, attempt)
    return Outcome(job["key"], DONE)


def publish(store: Store, job: dict, attempt: int = 1) -> None:
    store.publish(
        job["key"],
        {
            "key": job["key"],
            "kind": "cell",
            "status": DONE,
            "spec": job["spec"],
            "title": job["title"],
            "metrics": {},
            "timings": {"total_s": 0.0},
            "attempt": attempt,
        },
    )


def job(name: str, do: str = "", needs: tuple[Job, ...] = (), **resources) -> Job:
    spec = {"kind": "cell", "name": name, "do": do, "needs": {n.title: n.key for n in needs}}
    return Job(spec, name, resources=Resources(**{"memory_gb": 0.1, **resources}))


def plan(*jobs: Job) -> Plan:
    return Plan(Config(name="toy"), {j.key: j for j in jobs}, [{"key": j.key} for j in jobs])


def ran(store: Store) -> list[str]:
    path = store.path / "ran.txt"
    return path.read_text().splitlines() if path.exists() else []
