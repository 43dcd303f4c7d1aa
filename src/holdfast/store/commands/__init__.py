"""What can be written, one module per noun."""

from __future__ import annotations

from .checkpoints import CopyThread, DropRuns, Fence, PruneThreads, SaveCheckpoints
from .going_on import Answer, AskPause, Migrate, Resumed, Unpause, Wake, Woken
from .hubs import HubBeat, HubLeft
from .intake import Cancel, Cancelled, Submit, Submitted
from .keys import CreateKey, RevokeKey, TouchKeys
from .leases import Claim, Extended, ExtendLeases, GivenBack, Reap, TakeBack
from .pauses import PausePipeline, UnpausePipeline
from .prune import Prune
from .records import Finish, Finished

__all__ = [
    "Answer",
    "AskPause",
    "Cancel",
    "Cancelled",
    "Claim",
    "CopyThread",
    "CreateKey",
    "DropRuns",
    "ExtendLeases",
    "Extended",
    "Fence",
    "Finish",
    "Finished",
    "GivenBack",
    "HubBeat",
    "HubLeft",
    "Migrate",
    "PausePipeline",
    "Prune",
    "PruneThreads",
    "Reap",
    "Resumed",
    "RevokeKey",
    "SaveCheckpoints",
    "Submit",
    "Submitted",
    "TakeBack",
    "TouchKeys",
    "Unpause",
    "UnpausePipeline",
    "Wake",
    "Woken",
]
