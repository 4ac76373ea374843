"""File systems of a test's own that fill up, turn read-only, or lose their power. Needs root."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN = _IOR('X', 125, __u32)
WITHOUT_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: what is not in the journal on disk is lost
IMAGE_BYTES = 96 * 2**20
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def why_not() -> str | None:
    """Why this machine cannot mount file systems for a test; None if it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    for tool in ("mount", "mkfs.ext4"):
        if shutil.which(tool, path=PLACES) is None:
            return f"there is no {tool}"
    return None


class Mounted:
    """A file system under a folder, gone at the end of the block."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mount()
        return self

    def __exit__(self, error, *_) -> None:
        if error:  # for someone to look at
            shutil.copytree(self.folder, self.folder.with_name("left"), dirs_exist_ok=True)
        self.unmount()

    def mount(self) -> None:
        raise NotImplementedError

    def unmount(self) -> None:
        if os.path.ismount(self.folder):
            command("umount", self.folder)


class Ram(Mounted):
    """A tmpfs of some bytes or some inodes."""

    def __init__(self, folder: Path, **limits: int):
        super().__init__(folder)
        self.limits = limits

    def mount(self) -> None:
        command("mount", "-t", "tmpfs", "-o", options(self.limits), "relief-fault", self.folder)

    def grow(self, **limits: int) -> None:
        command("mount", "-o", f"remount,{options(limits)}", self.folder)

    def read_only(self) -> bool:
        """Turn it read-only; False while a file is open for writing."""
        done = subprocess.run(["mount", "-o", "remount,ro", self.folder], capture_output=True)
        return done.returncode == 0

    def writable(self) -> None:
        command("mount", "-o", "remount,rw", self.folder)


class Disk(Mounted):
    """An ext4 image on a loop device.

    commit_s: how often the journal is written without being asked. Files written before get their
    names and no bytes by that, as on a machine that runs for long.
    """

    def __init__(self, folder: Path, commit_s: int = 5):
        super().__init__(folder)
        self.image, self.commit_s = folder.with_name(f"{folder.name}.img"), commit_s

    def __enter__(self):
        with self.image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", "-m", "0", self.image)
        return super().__enter__()

    def __exit__(self, error, *_) -> None:
        super().__exit__(error)
        self.image.unlink()

    def mount(self) -> None:
        command("mount", "-o", f"loop,commit={self.commit_s}", self.image, self.folder)

    def cut(self) -> None:
        """The power goes: what is not on disk is lost, and every further call fails."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(handle)

    def power_up(self) -> None:
        self.unmount()
        self.mount()


def options(limits: dict[str, int]) -> str:
    return ",".join(f"{name}={value}" for name, value in limits.items())


def command(name: str, *words: object) -> None:
    words = (shutil.which(name, path=PLACES) or name, *words)
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
