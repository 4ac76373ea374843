"""The pages' templates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

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
    found.filters["breakable"] = breakable
    return found


def breakable(text: str) -> Markup:
    """A name or id that may go on in a new line where its parts are joined."""
    return Markup(re.sub(r"[/_+]", r"\g<0><wbr>", str(escape(text))))
