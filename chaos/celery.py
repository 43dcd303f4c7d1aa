"""`python -m chaos.celery …`: the `celery` command with a point armed."""

from __future__ import annotations

import os
import sys

from celery.__main__ import main

from . import VARIABLE

if __name__ == "__main__":
    if VARIABLE in os.environ:
        from .points import arm  # only here: it would make each start slower

        arm(dict(os.environ))
    sys.argv[0] = "celery"
    main()
