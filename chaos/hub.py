"""`python -m chaos.hub …`: the `holdfast` command with a point armed."""

from __future__ import annotations

import os

from holdfast.cli.main import main

from .points import arm

if __name__ == "__main__":
    arm(dict(os.environ))
    main()
