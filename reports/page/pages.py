"""The pages' templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from reports.page.figures import PALETTE

TEMPLATES = Path(__file__).parent / "templates"


def environment(**names: Any) -> jinja2.Environment:
    """Templates that escape every text and refuse names that are not given.

    names: what all of them are given
    """
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known: dict[str, Any] = found.globals
    known |= {"palette": PALETTE, **names}
    return found
