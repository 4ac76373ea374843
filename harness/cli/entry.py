"""Where the `relief` command starts: signals have an answer before anything heavy is imported."""

from __future__ import annotations

import sys

from harness.cli import installation
from harness.engine.interrupts import EXIT_INTERRUPTED, LINE, Interrupts, end_at_once


def main() -> None:
    """As harness.cli.app.main, once it is known to be ours.

    SIGTERM and Ctrl-C give one line and exit code 130 at any time.
    """
    end_at_once()
    installation.check()
    from harness.cli import app

    interrupts, code = Interrupts(), EXIT_INTERRUPTED
    try:
        try:
            interrupts.heed()
            app.main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        finally:
            end_at_once()
    except KeyboardInterrupt:
        interrupts.came = True
    if interrupts.came or code == EXIT_INTERRUPTED:  # maybe came where nobody could act on it
        print(LINE, file=sys.stderr)
        code = EXIT_INTERRUPTED
    sys.exit(code)
