"""The record of a job: what a finished job left, and who reads it how."""

from __future__ import annotations

IDENTITY = ("method", "variant", "setting", "dataset", "category", "seed")  # of a cell
