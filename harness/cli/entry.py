"""Where the `relief` command starts."""

from __future__ import annotations

from harness.cli import installation


def main() -> None:
    """As harness.cli.app.main, once it is known to be ours."""
    installation.check()
    from harness.cli import app

    app.main()
