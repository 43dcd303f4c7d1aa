"""What can be written, one module per noun."""

from __future__ import annotations

from .agents import ChangeAgent, DeleteAgent, PutAgent
from .apologies import Apologise
from .breakers import BreakerMoved, MoveBreaker, ReleasePostponed
from .bridging import TurnTold
from .budgets import GiveBackAllowances, PutBudget, RemoveBudget, TakeAllowance, Taken
from .checkpoints import CopyThread, DropRuns, Fence, PruneThreads, SaveCheckpoints
from .context_cache import CacheAccount, CacheMoved, MoveCache
from .dead_letters import Intervene, Intervened
from .forgetting import Removed
from .going_on import Answer, AskPause, Migrate, Resumed, Unpause, Wake, Woken
from .held import Moved
from .hubs import HubBeat, HubLeft
from .intake import Cancel, Cancelled, Submit, Submitted
from .keys import CreateKey, RevokeKey, TouchKeys
from .knowledge import PutDocument, RemoveCollection, RemoveDocument
from .leases import Claim, Extended, ExtendLeases
from .limits import TakeCalls
from .memory_items import DeleteItems, PutItems, SweepItems, TouchItems
from .pauses import PausePipeline, UnpausePipeline
from .processes import BeatProcesses, MoveProcess, ReturnProcesses, TakeProcesses, WantProcess
from .prompts import LabelMoved, MoveLabel, PutPrompt, PutPromptFiles, RollBackLabel
from .prune import Prune
from .reaping import GivenBack, Reap, TakeBack
from .records import Finish, Finished
from .schedules import DeleteSchedule, Due, DueSchedules, EnableSchedule, Fire, PutSchedule
from .sessions import ChangeSession, DeleteSession, MakeSession, NewSession
from .summaries import GiveFeedback, Summarise
from .usage import FoldUsage

__all__ = [
    "Answer",
    "Apologise",
    "AskPause",
    "BeatProcesses",
    "BreakerMoved",
    "CacheAccount",
    "CacheMoved",
    "Cancel",
    "Cancelled",
    "ChangeAgent",
    "ChangeSession",
    "Claim",
    "CopyThread",
    "CreateKey",
    "DeleteAgent",
    "DeleteItems",
    "DeleteSchedule",
    "DeleteSession",
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
    "FoldUsage",
    "GiveBackAllowances",
    "GiveFeedback",
    "GivenBack",
    "HubBeat",
    "HubLeft",
    "Intervene",
    "Intervened",
    "LabelMoved",
    "MakeSession",
    "Migrate",
    "MoveBreaker",
    "MoveCache",
    "MoveLabel",
    "MoveProcess",
    "Moved",
    "NewSession",
    "PausePipeline",
    "Prune",
    "PruneThreads",
    "PutAgent",
    "PutBudget",
    "PutDocument",
    "PutItems",
    "PutPrompt",
    "PutPromptFiles",
    "PutSchedule",
    "Reap",
    "ReleasePostponed",
    "RemoveBudget",
    "RemoveCollection",
    "RemoveDocument",
    "Removed",
    "Resumed",
    "ReturnProcesses",
    "RevokeKey",
    "RollBackLabel",
    "SaveCheckpoints",
    "Submit",
    "Submitted",
    "Summarise",
    "SweepItems",
    "TakeAllowance",
    "TakeBack",
    "TakeCalls",
    "TakeProcesses",
    "Taken",
    "TouchItems",
    "TouchKeys",
    "TurnTold",
    "Unpause",
    "UnpausePipeline",
    "Wake",
    "WantProcess",
    "Woken",
]
