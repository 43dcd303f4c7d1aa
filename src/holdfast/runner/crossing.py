"""Checkpoints and windows on their way over the socket: questions and answers as JSON.

Only what crosses is turned into JSON and back; a worker in the hub's own process hands the objects
over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from holdfast.domain.checkpoints import (
    Checkpoint,
    CheckpointsWanted,
    Saved,
    saved_from_json,
    saved_to_json,
)
from holdfast.domain.conversations import Message, Speaker, Window

PORT = "checkpoints."
"""How the names of its questions begin."""


def question_to_json(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a question of the checkpoints port."""
    written = dict(args)
    if "saved" in written:
        saved = cast("Sequence[Saved]", written["saved"])
        written["saved"] = [saved_to_json(one) for one in saved]
    if "wanted" in written:
        written["wanted"] = asdict(cast("CheckpointsWanted", written["wanted"]))
    return written


def question_from_json(port: str, written: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `question_to_json`; arguments of other ports are as they came."""
    args = dict(written)
    if not port.startswith(PORT):
        return args
    if "saved" in args:
        args["saved"] = [saved_from_json(one) for one in args["saved"]]
    if "wanted" in args:
        args["wanted"] = CheckpointsWanted(**args["wanted"])
    return args


def answer_to_json(port: str, answer: Any) -> Any:
    """What came of a question; checkpoints are written as they crossed before."""
    if not port.startswith(PORT) or answer is None:
        return answer
    return [saved_to_json(one) for one in cast("Sequence[Checkpoint]", answer)]


def answer_from_json(written: Any) -> Any:
    """The inverse of `answer_to_json`, for the checkpoints port."""
    return None if written is None else [saved_from_json(one) for one in written]


def window_from_json(written: Mapping[str, Any]) -> Window:
    """A window as it was written; any dataclass can be."""
    return Window(
        summaries=[_message(one) for one in written["summaries"]],
        messages=[_message(one) for one in written["messages"]],
        facts=written["facts"],
        left_out=written["left_out"],
    )


def _message(written: Mapping[str, Any]) -> Message:
    fields = dict(written)
    fields["role"] = Speaker(fields["role"])
    return Message(**fields)
