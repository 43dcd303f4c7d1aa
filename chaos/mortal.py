"""A tool that cannot be imported as long as a file is there: the process ends over it."""

from __future__ import annotations

import os

from .talk import dies_here, work

if dies_here():
    os._exit(3)

__all__ = ["work"]
