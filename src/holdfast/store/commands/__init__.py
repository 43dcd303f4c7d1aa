"""What can be written, one module per noun."""

from __future__ import annotations

from .intake import Cancel, Cancelled, Submit, Submitted
from .leases import Claim, Extended, ExtendLeases, GivenBack, Reap, TakeBack
from .records import Finish, Finished

__all__ = [
    "Cancel",
    "Cancelled",
    "Claim",
    "ExtendLeases",
    "Extended",
    "Finish",
    "Finished",
    "GivenBack",
    "Reap",
    "Submit",
    "Submitted",
    "TakeBack",
]
