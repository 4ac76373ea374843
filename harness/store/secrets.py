"""Addresses without the passwords in them."""

from __future__ import annotations

import re

USERINFO = re.compile(r"(://[^\s:/@]*:)\S*@")  # to the last @, since passwords may hold one
QUERY = re.compile(r"([?&](?:password|passwd|pwd|token|secret|api_key|key)=)[^&\s'\"]+", re.I)


def masked(text: str) -> str:
    """The text with the password of every address in it replaced by ***."""
    return QUERY.sub(r"\1***", USERINFO.sub(r"\1***@", text))
