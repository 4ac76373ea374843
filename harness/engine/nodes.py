"""What a node must have before it gets jobs: the driver's code, torch, store and data, and room.

`wanted` says it on the driver, `examine` compares on the node, `examine_all` does so on every node
of a cluster, `admit` keeps jobs off those that fail, or off this machine. All that travels is
plain, since a node may have other code.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from harness.data.content import content
from harness.data.datasets import open_dataset
from harness.data.samples import fingerprint as listing
from harness.engine.code import (
    TOKENS,
    admit_plugins,
    bring,
    fingerprint,
    lay_token,
    lift_token,
    refusal,
    version,
)
from harness.engine.executors import InfeasibleError, InProcess
from harness.engine.on_ray import OnRay
from harness.planning.jobs import Job
from harness.planning.plan import Plan
from harness.store import Store
from methods import plugins

OK, WARNING, FAULT = "ok", "warning", "fault"
CHECKS = ("code", "python", "torch", "store", "data", "disk", "memory", "gpu")
ANSWER = "answer"  # in place of all, where none came
GIB = 2**30
LEAST_DISK_GIB, LITTLE_DISK_GIB = 0.1, 5.0  # below: no job could end; a benchmark may not
GPU_S = 120.0  # at most so long for the first kernel of every GPU
SEEN_S = 5.0  # at most so long until the driver sees what a node wrote
MEMORY = Path("/proc/meminfo")

KERNEL = """
import sys, torch
what = "torch"
try:
    torch.cuda.init()
    for i in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(i)
        what = f"GPU {i} ({name})"
        x = torch.ones(64, device=f"cuda:{i}")
        assert float(x @ x) == 64, f"it computes {float(x @ x)} for 64"
        print(name)
except Exception as error:  # CUDA's go on for lines
    sys.exit(f"{what}: {type(error).__name__}: {error}".splitlines()[0])
"""


@dataclass(frozen=True)
class Finding:
    check: str  # one of CHECKS, or ANSWER
    state: str
    says: str  # one line; short where all is well
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """What was found on a node."""

    name: str
    node: str  # Ray's id; empty for this machine without Ray
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> list[Finding]:
        return [f for f in self.findings if f.state == FAULT]

    def found(self, check: str) -> Finding | None:
        return next((f for f in self.findings if f.check == check), None)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"ok": not self.faults}


def wanted(plan: Plan | None, store: Store) -> dict[str, Any]:
    """What every node must have, as this process has it.

    plan: whose data and inputs are looked at, those that jobs to do read; None for none
    """
    jobs = plan.pending(store) if plan else []
    data = {}
    for job in jobs:
        if job.about.kind in ("view", "truth") and job.place.root:
            spec, place = job.spec, job.place
            about = {"kind": place.kind, "root": place.root, "reading": spec["reading"]}
            about |= {"category": spec["category"], "listing": place.listing}
            about |= {"content": place.content}
            data[place.root, spec["category"], spec["data"]] = about
    return {
        "version": version(),
        "code": fingerprint(),
        "plugins": plugins.described(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "store": str(store.path),
        "token": "",
        "data": list(data.values()),
        "inputs": sorted({path for job in jobs for path in job.place.inputs.values()}),
        "memory_gb": max((job.resources.memory_gb for job in jobs), default=0.0),
    }


def examine_here(want: dict[str, Any]) -> Report:
    """This machine, without Ray."""
    token = lay_token(want["store"])
    try:
        found = examine(want | {"token": token}, None, "here")
        return _report(platform.node(), "", found, want["store"], token)
    finally:
        lift_token(want["store"], token)


def examine_all(ray: Any, want: dict[str, Any], timeout_s: float) -> list[Report]:
    """Every node of the cluster that runs jobs, all at once; what does not answer is faulty."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]
    names, store = _names(nodes), want["store"]
    token = lay_token(store)
    task = ray.remote(max_retries=0, num_cpus=0)(_carried())
    try:
        refs = {}
        for node in nodes:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            send = task.options(name="check a node", scheduling_strategy=here)
            gpus = node["Resources"].get("GPU", 0)
            refs[send.remote(want | {"token": token}, gpus, node["NodeID"])] = node["NodeID"]
        ready, silent = ray.wait(list(refs), num_returns=len(refs), timeout=timeout_s)
        found = {refs[ref]: _answer(ray, ref) for ref in ready}
        for ref in silent:
            ray.cancel(ref, force=True)
            why = f"no answer within {timeout_s:g} s"
            remedy = "see whether its disks and its Ray are well, or give it more time with "
            found[refs[ref]] = _fault(ANSWER, why, remedy + "schedule.node_check_s")
        return [_report(names[i], i, found[i], store, token) for i in names]
    finally:
        lift_token(store, token)


def admit(
    executor: OnRay | InProcess, plan: Plan, store: Store, say: Callable[[str], None]
) -> None:
    """Check every node of a cluster, keep jobs off those that fail, and say so, a line each.

    Of this machine alone only GPUs, where jobs ask for some: all else is what this process has.
    Raises InfeasibleError if no node is left.
    """
    if isinstance(executor, InProcess) or executor.address is None:
        _admit_gpus(plan.pending(store), sum(offer.gpus for offer in executor.offers))
        return
    reports = examine_all(executor.ray, wanted(plan, store), plan.config.schedule.node_check_s)
    faulty = [report for report in reports if report.faults]
    executor.excluded |= {report.node for report in faulty}
    lines = [f"{r.name} gets no jobs: {'; '.join(map(line, r.faults))}" for r in faulty]
    if len(faulty) == len(reports):
        there = "\n".join(lines) or "there is no node with a CPU"
        raise InfeasibleError(f"no node can run jobs; `relief doctor` prints all\n{there}")
    for text in lines:
        say(text)


def _admit_gpus(jobs: Sequence[Job], offered: int) -> None:
    if not any(job.resources.gpus for job in jobs):
        return
    found = _gpu(offered or None)  # none offered, though there may be some
    if found.state == FAULT:
        raise InfeasibleError(f"no job can use a GPU of this machine: {line(found)}")


def line(found: Finding) -> str:
    """A finding whole, with its remedy."""
    return f"{found.check}: {found.says}" + f"; {found.remedy}" * bool(found.remedy)


def examine(want: dict[str, Any], gpus: float | None, place: str) -> list[dict[str, str]]:
    """Compare this machine with what is wanted; -> findings as plain values.

    gpus: how many the node offers; None: look for them. place: a name for its file in the store.
    """
    checks: dict[str, Callable[[], Finding]] = {
        "code": lambda: _code(want),
        "python": lambda: _same("python", platform.python_version(), want["python"]),
        "torch": lambda: _torch(want),
        "store": lambda: _store(want, place),
        "data": lambda: _data(want),
        "disk": lambda: _disk(want["store"]),
        "memory": lambda: _memory(want["memory_gb"]),
        "gpu": lambda: _gpu(gpus),
    }
    found = []
    for name, check in checks.items():
        try:
            found.append(check())
        except (OSError, ValueError, RuntimeError) as error:
            found.append(Finding(name, FAULT, f"{type(error).__name__}: {error}"))
    return [asdict(one) for one in found]


def _code(want: dict[str, Any]) -> Finding:
    why = refusal({k: want[k] for k in ("version", "code")}, want["store"])
    why = why or admit_plugins(want["plugins"], want["store"])
    return Finding("code", FAULT, why) if why else Finding("code", OK, fingerprint()[:8])


def _same(check: str, here: str, there: str) -> Finding:
    if here == there:
        return Finding(check, OK, here)
    remedy = "install the same on every node"
    return Finding(check, FAULT, f"this node has {here}, the driver {there}", remedy)


def _torch(want: dict[str, Any]) -> Finding:
    """Another version gives other numbers; another build of the same may be meant, for GPUs say."""
    here, there = torch.__version__, want["torch"]
    if here.partition("+")[0] == there.partition("+")[0] and here != there:
        return Finding("torch", WARNING, f"this node has the build {here}, the driver {there}")
    return _same("torch", here, there)


def _store(want: dict[str, Any], place: str) -> Finding:
    token = Path(want["store"]) / TOKENS / want["token"]
    remedy = "choose a folder that all nodes share with --store, or mount it here"
    if not token.exists():
        there = "another folder" if Path(want["store"]).is_dir() else "no folder"
        return Finding("store", FAULT, f"there is {there} {want['store']} on this node", remedy)
    try:
        if token.read_text(encoding="ascii") != want["token"]:
            raise OSError("it reads otherwise than it was written")
        answer = token.with_name(f"{token.name}-{place}")
        answer.write_text(want["token"], encoding="ascii")
    except OSError as error:
        return Finding("store", FAULT, f"{want['store']}: {error.strerror or error}", remedy)
    return Finding("store", OK, OK)


def _data(want: dict[str, Any]) -> Finding:
    """The files of the plan are those of the driver: by names, sizes and times, else by content."""
    remedy = "put the same files there on every node"
    for path in want["inputs"]:
        if not Path(path).exists():
            return Finding("data", FAULT, f"this node has no {path}", remedy)
    for one in want["data"]:
        root, category = one["root"], one["category"]
        try:
            opened = open_dataset(one["kind"], root, **one["reading"])
            found = opened.category(category)
            same = listing(found) == one["listing"] or content(found) == one["content"]
        except (OSError, ValueError) as error:
            return Finding("data", FAULT, f"{root}, {category}: {error}", remedy)
        if not same:
            why = f"{root}, {category}: its files differ from the driver's"
            return Finding("data", FAULT, why, remedy)
    return Finding("data", OK, OK if want["data"] or want["inputs"] else "-")


def _disk(store: str) -> Finding:
    folder = next(p for p in (Path(store), *Path(store).parents) if p.exists())
    free = shutil.disk_usage(folder).free / GIB
    if free >= LITTLE_DISK_GIB:
        return Finding("disk", OK, _gib(free))
    state = FAULT if free < LEAST_DISK_GIB else WARNING
    return Finding("disk", state, f"{_gib(free)} free in {store}", "free some, or another --store")


def _memory(asked_gb: float) -> Finding:
    """asked_gb: the most that one job asks for, GiB"""
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
        free = next(int(x.split()[1]) * 1024 / GIB for x in lines if x.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return Finding("memory", OK, "-")  # the system does not tell
    if free >= asked_gb:
        return Finding("memory", OK, _gib(free))
    says = f"{_gib(free)} free, a job may take {asked_gb:g} GiB"
    return Finding("memory", WARNING, says, "end what else runs there")


def _gpu(offered: float | None) -> Finding:
    """A kernel on every GPU, in a process of its own: Ray hides GPUs from this one."""
    if not offered and (offered == 0 or not shutil.which("nvidia-smi")):
        return Finding("gpu", OK, "-")
    remedy = (
        "install a torch and a driver for this GPU (README.md: which build needs which), leave it "
        "out by CUDA_VISIBLE_DEVICES, or resources.default.gpus=0 for CPUs"
    )
    if torch.version.cuda is None and torch.version.hip is None:
        return Finding("gpu", FAULT, f"torch {torch.__version__} is built without CUDA", remedy)
    given = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES" or v}
    command = [sys.executable, "-P", "-c", KERNEL]  # -P: not what lies in the current folder
    try:
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=GPU_S)
    except subprocess.TimeoutExpired:
        return Finding("gpu", FAULT, f"no answer of its GPUs within {GPU_S:g} s", remedy)
    names = done.stdout.split("\n")[:-1]
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Finding("gpu", FAULT, f"{why} (torch {torch.__version__})", remedy)
    if offered and len(names) < offered:
        says = f"Ray offers {offered:g} GPUs, torch sees {len(names)}"
        return Finding("gpu", FAULT, says, remedy)
    return Finding("gpu", OK, ", ".join(f"{n} {name}" for name, n in Counter(names).items()))


def _gib(size: float) -> str:
    return f"{size:.0f} GiB" if size >= 10 else f"{size:.1f} GiB"


def _fault(check: str, says: str, remedy: str = "") -> list[dict[str, str]]:
    return [asdict(Finding(check, FAULT, says, remedy))]


def _carried() -> Callable[..., list[dict[str, str]] | str]:
    """`examine` as it travels to nodes; a text says why it cannot be called there."""
    find = bring(examine)

    def carry(want: dict[str, Any], gpus: float, place: str) -> Any:
        try:
            return find()(want, gpus, place)
        except Exception as error:
            return f"{type(error).__name__}: {error}".splitlines()[0]

    return carry


def _answer(ray: Any, ref: Any) -> list[dict[str, str]]:
    remedy = "install the driver's Relief, Python and torch on every node"
    try:
        found = ray.get(ref)
    except ray.exceptions.RayError as error:
        text = str(error).strip().splitlines()[0]
        return _fault(ANSWER, f"its check died: {type(error).__name__}: {text}", remedy)
    if isinstance(found, str):
        return _fault("code", f"this node cannot import the driver's Relief: {found}", remedy)
    return found


def _report(name: str, node: str, found: list[dict[str, str]], store: str, token: str) -> Report:
    """With what the driver sees of the node's answer in the store."""
    findings = [Finding(**one) for one in found]
    answer = Path(store) / TOKENS / f"{token}-{node or 'here'}"
    for i, one in enumerate(findings):
        if one.check == "store" and one.state == OK and not _seen(answer):
            says = f"it wrote into {store}, and the driver does not find it there"
            findings[i] = Finding("store", FAULT, says, "mount the same folder on every node")
    return Report(name, node, tuple(findings))


def _seen(path: Path) -> bool:
    """Whether a file is there; network file systems may take seconds to show it."""
    ends = time.monotonic() + SEEN_S
    while not path.exists():
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True


def _names(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Id -> the host's name, with the start of the id where several nodes share a host."""
    hosts = Counter(node["NodeManagerHostname"] for node in nodes)
    named = {}
    for node in nodes:
        host, ident = node["NodeManagerHostname"], node["NodeID"]
        named[ident] = host if hosts[host] == 1 else f"{host}/{ident[:6]}"
    return named
