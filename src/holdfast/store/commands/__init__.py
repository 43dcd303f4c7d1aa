"""What can be written, one module per noun."""

from __future__ import annotations

from .breakers import BreakerMoved, MoveBreaker, ReleasePostponed
from .checkpoints import CopyThread, DropRuns, Fence, PruneThreads, SaveCheckpoints
from .dead_letters import Intervene, Intervened
from .going_on import Answer, AskPause, Migrate, Resumed, Unpause, Wake, Woken
from .held import Moved
from .hubs import HubBeat, HubLeft
from .intake import Cancel, Cancelled, Submit, Submitted
from .keys import CreateKey, RevokeKey, TouchKeys
from .leases import Claim, Extended, ExtendLeases, GivenBack, Reap, TakeBack
from .pauses import PausePipeline, UnpausePipeline
from .prune import Prune
from .records import Finish, Finished
from .schedules import DeleteSchedule, Due, DueSchedules, EnableSchedule, Fire, PutSchedule

__all__ = [
    "Answer",
    "AskPause",
    "BreakerMoved",
    "Cancel",
    "Cancelled",
    "Claim",
    "CopyThread",
    "CreateKey",
    "DeleteSchedule",
    "DropRuns",
    "Due",
    "DueSchedules",
    "EnableSchedule",
    "ExtendLeases",
    "Extended",
    "Fence",
    "Finish",
    "Finished",
    "Fire",
    "GivenBack",
    "HubBeat",
    "HubLeft",
    "Intervene",
    "Intervened",
    "Migrate",
    "MoveBreaker",
    "Moved",
    "PausePipeline",
    "Prune",
    "PruneThreads",
    "PutSchedule",
    "Reap",
    "ReleasePostponed",
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
