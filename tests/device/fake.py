"""The accelerator of fake.cpp: built once, loaded once, and what it counted."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import torch
from torch._utils import _get_device_index

SOURCE = Path(__file__).with_name("fake.cpp")
NAME = "fake"
LAUNCHES, SYNCS, TO_DEVICE, TO_HOST, BYTES, PEAK = range(6)
CARD_BYTES = 2**40  # of a card without a limit
_loaded: list[ctypes.CDLL] = []
_limit = [CARD_BYTES]


class NoCompilerError(RuntimeError):
    """There is nothing to build it with."""


def build() -> Path:
    """The shared library, compiled unless one of this source and torch is there."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NoCompilerError("no C++ compiler (g++, clang++ or $CXX)")
    about = f"{SOURCE.read_text()}{torch.__version__}{compiler}"
    digest = hashlib.sha256(about.encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"relief-fake-device-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise NoCompilerError(f"{folder} is somebody else's")
    library = folder / f"{digest}.so"
    if library.exists():
        return library
    root = Path(torch.__file__).parent
    part = library.with_suffix(f".{os.getpid()}.part")
    command = [compiler, "-std=c++20", "-O1", "-fPIC", "-shared", str(SOURCE), "-o", str(part)]
    command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]
    command += [f"-I{root / 'include'}", f"-I{root / 'include/torch/csrc/api/include'}"]
    command += [f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}", "-ltorch_cpu", "-lc10"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{SOURCE.name} does not compile:\n{done.stderr[-3000:]}")
    os.replace(part, library)
    return library


def load() -> torch.device:
    """Make the device known to torch; once a process."""
    if not _loaded:
        path = str(build())
        torch.utils.rename_privateuse1_backend(NAME)
        torch.ops.load_library(path)
        library = ctypes.CDLL(path)
        library.fake_count.restype = ctypes.c_int64
        library.fake_names.restype = ctypes.c_char_p
        library.fake_limit.argtypes = [ctypes.c_int64]
        library.fake_register()
        torch._register_device_module(NAME, _module())
        torch.utils.generate_methods_for_privateuse1_backend()
        _loaded.append(library)
    return torch.device(NAME, 0)


def _module() -> ModuleType:
    """What torch asks of `torch.fake`; random numbers are those of the CPU."""
    module = ModuleType(f"torch.{NAME}")
    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module._is_in_bad_fork = lambda: False
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.set_device = lambda device: None
    module.device = nullcontext  # there is one alone
    module.synchronize = lambda device=None: None
    module.get_rng_state = lambda device=None: torch.get_rng_state()
    module.set_rng_state = lambda state, device=None: torch.set_rng_state(state)
    module.manual_seed = module.manual_seed_all = lambda seed: None
    module.memory_stats = lambda device=None: {
        f"{name}_bytes.all.current": held() for name in ("allocated", "reserved")
    }
    module.mem_get_info = lambda device=None: (_limit[0] - held(), _limit[0])
    # As torch.cuda's, which refuses a device without its number; torch takes any number for one.
    module.get_per_process_memory_fraction = lambda device: 1.0 + 0 * _get_device_index(device)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    return module


def held() -> int:
    """Bytes of the device that tensors take now."""
    return _loaded[0].fake_count(BYTES) if _loaded else 0


@contextmanager
def limited(bytes: int) -> Iterator[None]:
    """A card that has so many bytes beside what is held now; more is out of memory."""
    _limit[0] = held() + bytes
    _loaded[0].fake_limit(_limit[0])
    try:
        yield
    finally:
        _limit[0] = CARD_BYTES
        _loaded[0].fake_limit(CARD_BYTES)


@dataclass
class Counts:
    """What a host did for the device in a block. operators, waits: name -> launches, syncs."""

    launches: int = 0
    syncs: int = 0
    to_device: int = 0
    to_host: int = 0
    peak_bytes: int = 0
    operators: dict[str, int] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)


@contextmanager
def counted() -> Iterator[Counts]:
    """Counts of what is done inside, known at its end."""
    load()
    library, found = _loaded[0], Counts()
    library.fake_forget()
    yield found
    found.launches, found.syncs, found.to_device, found.to_host, _, found.peak_bytes = (
        library.fake_count(i) for i in range(6)
    )
    found.operators, found.waits = _names(library, 0), _names(library, 1)


def _names(library: ctypes.CDLL, syncs: int) -> dict[str, int]:
    rows = [row.rpartition(" ") for row in library.fake_names(syncs).decode().splitlines()]
    found = {name: int(count) for name, _, count in rows}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
