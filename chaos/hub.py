"""`python -m chaos.hub …`: the `holdfast` command with a point armed."""

from __future__ import annotations

import os

from holdfast.cli.main import main

from . import VARIABLE

if __name__ == "__main__":
    if VARIABLE in os.environ:
        from .points import arm  # only here: it would make each start slower

        arm(dict(os.environ))
    main()
