"""Puts the commit into what is built: an installed wheel has no checkout to ask.

harness/COMMIT, read by harness/engine/commit.py. A source distribution carries it on.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or not (Path(self.root) / ".git").exists():
            return
        commit = self._git("rev-parse", "--short=12", "HEAD")
        changed = self._git("--no-optional-locks", "status", "--porcelain", "-uno")
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "COMMIT"
        path.write_text(commit + ("+" if changed else ""), encoding="ascii")
        build_data["force_include"][str(path)] = "harness/COMMIT"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", self.root, *arguments]
        return subprocess.run(command, text=True, capture_output=True, check=True).stdout.strip()
