"""Whether this process has the machine's CPUs and its card for itself, so that its times count."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import torch

from harness.planning.packing import CONTEXT_BYTES

STAT = Path("/proc/stat")
IDLE = 0.05  # of the CPUs, which a system keeps busy by itself
SCREEN_BYTES = 2**29  # of a card that is no one's work: a display, a driver that stays loaded
ASK_S = 10.0  # at most for nvidia-smi


class Alone:
    """Watches from its construction on what others do here."""

    def __init__(self, device: torch.device):
        self.device, self.at = device, time.perf_counter()
        self.busy, self.own = busy_s(), time.process_time()

    def disturbed(self) -> str:
        """Who else has used the machine since then, as far as can be told; empty if nobody."""
        busy, wall = busy_s(), time.perf_counter() - self.at
        own = time.process_time() - self.own
        cpus = None if busy is None or self.busy is None else (busy - self.busy - own) / wall
        found = others_on_cpus(cpus, os.cpu_count() or 1)
        if self.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.device)
            held = total - free - torch.cuda.memory_reserved(self.device)
            found += others_on_card(held, computing(self.device))
        return "; ".join(found)


def others_on_cpus(cpus: float | None, count: int) -> list[str]:
    """cpus: how many of the `count` CPUs other processes kept busy; None: nobody can tell"""
    if cpus is None:
        return ["this system does not tell who uses its CPUs"]
    return [f"other processes keep {cpus:.1f} of {count} CPUs busy"] if cpus > IDLE * count else []


def others_on_card(held: float, processes: int | None) -> list[str]:
    """held: bytes of the card beside our tensors; processes: that compute on it, ours too"""
    if processes is not None and processes > 1:
        return [f"{processes} processes compute on the card"]
    theirs = held - CONTEXT_BYTES
    return [f"other processes hold {theirs / 1e9:.1f} GB of the card"] * (theirs > SCREEN_BYTES)


def busy_s() -> float | None:
    """CPU time that all processes have used since the machine started; None if it is not told.

    What a hypervisor gave to others counts: it is not ours.
    """
    try:
        fields = STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _, _, *more = map(int, fields[1:9])  # without idle and iowait
    except (OSError, ValueError):
        return None
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")


def computing(device: torch.device) -> int | None:
    """Processes with a context on a card, as its driver lists them; None where it does not.

    Of a container's processes some drivers list none, so no number below two says anything.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    card = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    asked = [tool, f"--id={card}", "--query-compute-apps=pid", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=ASK_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return len(answer.stdout.split("\n")) - answer.stdout.endswith("\n") if answer.stdout else None
