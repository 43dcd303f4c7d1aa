"""The entry point of `holdfast`: how it starts quickly, and how errors leave it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

VERSION = "--version"


def main() -> None:
    """Run the command line; the exit code is 0, 1 (something failed) or 2 (wrong usage)."""
    if sys.argv[1:] == [VERSION]:  # answered before anything else is imported
        say_version()
        return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows `?`
    # Apps are named from where the command is run, as `python -m` would find them.
    sys.path.insert(0, str(Path.cwd()))

    from holdfast.errors import HoldfastError

    from .commands import app

    try:
        app()
    except HoldfastError as error:
        from .terminal import complain

        complain(error)
        sys.exit(1)


def say_version() -> None:
    """Write the version to standard output."""
    from importlib.metadata import version

    sys.stdout.write(f"holdfast {version('holdfast')}\n")
