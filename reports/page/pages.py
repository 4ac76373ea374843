"""The pages' templates."""

from __future__ import annotations

from pathlib import Path

import jinja2

from reports.page.figures import PALETTE

TEMPLATES = Path(__file__).parent / "templates"


def environment() -> jinja2.Environment:
    """Templates that escape every text and refuse names that are not given."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["palette"] = PALETTE
    return found
