"""How a card's steps hang together: who runs in whom, who follows whom."""

from __future__ import annotations

from functools import cached_property

from .model import END, CardShape, StepShape

NO_STEP = ("abort", "continue")
"""What `on_failure` may say that is no step's name."""


class Plan:
    """A card's steps and the ways between them; names may lead nowhere yet.

    Attributes:
        steps: by name, in the card's order.
        holders: the group or map each member runs in.
        failing: the step that each stand-in stands in for.
    """

    def __init__(self, card: CardShape) -> None:
        self.steps = card.steps
        self.holders: dict[str, str] = {}
        self.failing: dict[str, str] = {}
        for name, step in self.steps.items():
            for member in members_of(step):
                self.holders.setdefault(member, name)
            if step.on_failure is not None and step.on_failure not in NO_STEP:
                self.failing.setdefault(step.on_failure, name)

    @cached_property
    def start(self) -> str | None:
        """The first step that is no part of another."""
        alone = (n for n in self.steps if n not in self.holders and n not in self.failing)
        return next(alone, None)

    def ways(self, name: str) -> list[str]:
        """Steps that may follow a step, a loop's way back included."""
        step = self.steps.get(name)
        if step is None:
            return []
        ways = [step.next] if step.next is not None else []
        for case in step.condition or ():
            ways += [way for way in (case.then, case.else_) if way is not None]
        if step.loop is not None:
            ways.append(step.loop.back_to)
        return [way for way in ways if way != END]

    @cached_property
    def reached(self) -> set[str]:
        """Every step that some run comes to."""
        if self.start is None:
            return set()
        outer = {self.start} | self._after(self.start)
        found = set(outer)
        left = list(outer)
        while left:
            name = left.pop()
            step = self.steps.get(name)
            if step is None:
                continue
            inner = [*members_of(step)]
            if step.on_failure is not None and step.on_failure not in NO_STEP:
                inner.append(step.on_failure)
            left += [one for one in inner if one not in found]
            found.update(inner)
        return found

    def before(self, name: str) -> set[str]:
        """Steps that may have a result when this one runs.

        Members of a group have one when the group has run; what a map runs leaves none but the
        map's list; a stand-in's counts as its step's, and may be looked at as well.
        """
        outer = self._outer(name)
        found = {one for one in self.steps if outer in self._after(one)}
        left = list(found)
        while left:
            step = self.steps[left.pop()]
            inner = list(step.parallel or ())
            if step.on_failure in self.steps:
                inner.append(str(step.on_failure))
            new = [one for one in inner if one in self.steps and one not in found]
            found.update(new)
            left += new
        return found

    def in_map(self, name: str) -> bool:
        """Whether a map, or a part of one, runs the step."""
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            holder = self.holders.get(name) or self.failing.get(name)
            if holder is None:
                return False
            if self.steps[holder].map is not None and holder == self.holders.get(name):
                return True
            name = holder
        return False

    def _outer(self, name: str) -> str:
        """The step of the outer graph that a step is a part of."""
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            name = self.holders.get(name) or self.failing.get(name) or name
        return name

    def _after(self, name: str) -> set[str]:
        found: set[str] = set()
        left = self.ways(name)
        while left:
            one = left.pop()
            if one not in found:
                found.add(one)
                left += self.ways(one)
        return found


def members_of(step: StepShape) -> list[str]:
    """Steps that run inside a group or a map."""
    return [*(step.parallel or ()), *([step.map.step] if step.map is not None else ())]


def without_result(step: StepShape) -> bool:
    """Whether there is nothing in its result to refer to."""
    return step.kind == "condition" or (step.wait is not None and step.wait.event is None)
