"""What an exception says of memory: which ran out, and whether CUDA is of any use afterwards.

torch has a type of its own for its allocator alone; what cuBLAS, cuFFT, the driver or the CPU's
allocator cannot have arrives as RuntimeError with the library's words.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch

from harness.planning.jobs import Job
from harness.planning.packing import CONTEXT_BYTES

CARD_WORDS = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",  # cuDNN 9 says so of any allocation
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUFFT_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_INSUFFICIENT_RESOURCES",
)
HOST_WORDS = (
    "DefaultCPUAllocator: ",
    "cudaHostAlloc",
    "Cannot allocate memory",
    "(-4:Insufficient memory)",  # OpenCV
)
ONE = "a single sample was predicted"  # a note of an error: no batch could be smaller
# after these the process's context is lost, or may be: an illegal access, a failed kernel
BROKEN_WORDS = (
    "CUDA error",
    "CUDA driver error",
    "CUDNN_STATUS_",
    "CUBLAS_STATUS_",
    "CUFFT_",
    "CUSOLVER_STATUS_",
    "CUSPARSE_STATUS_",
)


def ran_out(error: BaseException) -> Literal["", "card", "host"]:
    """The memory that could not be had; empty if it was something else."""
    for one in _chain(error):
        text = str(one)
        if isinstance(one, torch.OutOfMemoryError) or any(word in text for word in CARD_WORDS):
            return "card"
        if isinstance(one, MemoryError) or any(word in text for word in HOST_WORDS):
            return "host"
        if isinstance(one, OSError) and one.errno == errno.ENOMEM:
            return "host"
    return ""


def breaks_cuda(error: BaseException) -> bool:
    """Whether the process must not use its GPU again. torch's own allocator fails soundly."""
    return any(
        isinstance(one, torch.AcceleratorError) or any(w in str(one) for w in BROKEN_WORDS)
        for one in _chain(error)
        if not isinstance(one, torch.OutOfMemoryError)
    )


def bound(share: float) -> None:
    """Let torch have no more of the current card than a job's share, less what CUDA itself keeps.

    share: of a card; from 1 on all of it
    """
    kept = CONTEXT_BYTES / torch.cuda.get_device_properties().total_memory
    fraction = 1.0 if share >= 1 else max(share - kept, share / 2)
    torch.cuda.set_per_process_memory_fraction(fraction)


def remedy(memory: Literal["card", "host"], job: Job, error: BaseException) -> str:
    """What a job that ran out of memory had, and which settings lower what it needs."""
    about, had = job.about, job.resources
    method = about.method or about.kind
    one = ONE in getattr(error, "__notes__", ())
    batches = [f"{method}.{name} ({size})" for name, size in _batches(about.settings) if not one]
    if about.kind == "cell" and not one:
        batches.append(f"protocol.batch ({job.place.protocol.batch}), of predictions")
    if memory == "card":
        share, more = f"{had.gpus:g} of a card", f"resources.{method}.gpus"
    else:
        share, more = f"{had.memory_gb:g} GB of memory reserved", f"resources.{method}.memory_gb"
    if one:
        return f"{ONE}, and the job had {share}: give more by {more}"
    lower = f"; lower {', '.join(batches)}" if batches else ""
    return f"the job had {share}{lower}, or give more by {more}"


def _batches(settings: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, int]]:
    """Dotted names and sizes of all batches in settings."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _batches(value, f"{at}{name}.")
        elif name == "batch":
            yield f"{at}{name}", value


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it was raised from or while handling."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
