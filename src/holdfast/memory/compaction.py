"""Compaction: when the oldest messages of a session are put into a summary, and which."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.domain.conversations import Compaction, Message, Speaker


def is_due(unsummarised: int, rule: Compaction) -> bool:
    """Whether a block is to be put into a summary.

    Args:
        unsummarised: messages of the session for which no summary stands.
        rule: the agent's.
    """
    return unsummarised >= max(rule.from_messages, rule.keep + rule.block)


def block_of(oldest: Sequence[Message]) -> list[Message]:
    """The messages that the next summary is to stand for.

    Args:
        oldest: the oldest messages without a summary, as many as one stands for.

    Returns:
        Them, but for a question that stands last: it is left for the next block, with its answer.
    """
    block = list(oldest)
    if len(block) > 1 and block[-1].role is Speaker.USER:
        block.pop()
    return block
