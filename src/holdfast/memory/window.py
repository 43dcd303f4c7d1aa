"""The window: what of a session a model gets to see within a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from holdfast.domain.conversations import Message, Window
from holdfast.domain.splitting import tokens_of

FRAME_TOKENS = 6
"""Counted for each message besides its text: whose it is, and what stands around it. With it the
estimate is never below LangChain's approximate count."""

FIRST_ROWS = 64
"""Messages read at first: more than stand without a summary where compaction is on."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A window, and whether it is the last word.

    Attributes:
        more: older messages that were not given would fit, too.
    """

    window: Window
    more: bool


def weight(message: Message) -> int:
    """About how many tokens a message takes before a model."""
    return message.tokens + FRAME_TOKENS


def weight_of_facts(facts: Sequence[str]) -> int:
    """The same for facts, which stand as a list in one message."""
    return FRAME_TOKENS + sum(tokens_of(fact) + 1 for fact in facts) if facts else 0


def rows_for(token_budget: int) -> int:
    """So many messages can fit at most, however short they are."""
    return max(FIRST_ROWS, token_budget // FRAME_TOKENS + 2)


def choose(
    newest: Sequence[Message],
    *,
    summaries: Sequence[Message] = (),
    facts: Sequence[str] = (),
    token_budget: int,
    depth: int | None = None,
    unsummarised: int | None = None,
    whole: bool = True,
) -> Chosen:
    """Choose what a model gets to see.

    The newest turn stays whatever it takes, and so do summaries and facts; of the turns before it
    those stay that fit, as whole ones and without a gap.

    Args:
        newest: messages for which no summary stands, the newest first; of a running turn that is
            its question.
        summaries: the newest first.
        facts: known of the session.
        token_budget: tokens that all of it may take.
        depth: the most messages; None for as many as fit.
        unsummarised: how many messages there are, with those that are not given; None: no others.
        whole: there are no older messages than the given; otherwise the oldest turn is left out,
            for it may be given in part.
    """
    turns = [list(turn) for _, turn in groupby(newest, key=lambda message: message.turn)]
    if not whole and len(turns) > 1:
        turns.pop()
    left = token_budget - weight_of_facts(facts) - sum(map(weight, summaries))
    most = len(newest) if depth is None else depth
    chosen: list[Message] = []
    taken = 0
    for taken, turn in enumerate(turns):
        needs = sum(map(weight, turn))
        if taken and (needs > left or len(chosen) + len(turn) > most):
            break
        chosen += turn
        left -= needs
    else:
        taken = len(turns)
    chosen.reverse()
    window = Window(
        summaries=list(reversed(summaries)),
        messages=chosen,
        facts=list(facts),
        left_out=max(0, (len(newest) if unsummarised is None else unsummarised) - len(chosen)),
    )
    full = left <= 0 or (depth is not None and len(chosen) >= depth)
    return Chosen(window, more=not whole and taken == len(turns) and not full)
