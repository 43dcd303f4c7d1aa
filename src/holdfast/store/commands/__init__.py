"""What can be written, one module per noun."""

from __future__ import annotations

from .intake import Cancel, Cancelled, Submit, Submitted
from .keys import CreateKey, RevokeKey, TouchKeys
from .leases import Claim, Extended, ExtendLeases, GivenBack, Reap, TakeBack
from .records import Finish, Finished

__all__ = [
    "Cancel",
    "Cancelled",
    "Claim",
    "CreateKey",
    "ExtendLeases",
    "Extended",
    "Finish",
    "Finished",
    "GivenBack",
    "Reap",
    "RevokeKey",
    "Submit",
    "Submitted",
    "TakeBack",
    "TouchKeys",
]
