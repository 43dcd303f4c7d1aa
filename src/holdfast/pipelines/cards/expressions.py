"""Expressions of cards: what a condition says of the run, parsed by Lark, worked out by a walk.

Nothing is compiled or evaluated as Python. A walk over the parsed tree looks at data alone: fields
of models, keys of mappings, items of lists; never at attributes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, NamedTuple, cast

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from holdfast.errors import ExpressionError

from .paths import REFERENCE, Reference

MAX_CHARS = 1000
"""Of an expression; what needs more is code, and belongs in an action."""

MAX_DEPTH = 30
"""Expressions within expressions."""

FUNCTIONS = ("length", "lower", "defined")

GRAMMAR = r"""
?start: either
?either: both (_OR both)*
?both: negated (_AND negated)*
?negated: comparison | "not" negated -> negation
?comparison: operand
    | operand COMPARE operand -> compare
    | operand "in" operand -> member
    | operand "not" "in" operand -> no_member
?operand: "!" operand -> negation
    | REFERENCE -> reference
    | STRING -> string
    | SIGNED_NUMBER -> number
    | "true" -> true
    | "false" -> false
    | "null" -> null
    | "[" [either ("," either)*] "]" -> items
    | WORD "(" either ")" -> call
    | WORD -> bare
    | "(" either ")"
_OR: "||" | /or\b/
_AND: "&&" | /and\b/
COMPARE: "==" | "!=" | "<=" | ">=" | "<" | ">"
STRING: /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/
SIGNED_NUMBER: /-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/
WORD: /(?!(?:and|or|not|in|true|false|null)\b)[A-Za-z_][A-Za-z0-9_.]*/
REFERENCE: /%s/
%%ignore /[ \t\r\n]+/
"""

Node = Tree[Token]

Look = Callable[[Reference], Any]
"""Gives what a reference points to, or raises `ExpressionError` or `NoResult`."""


class Misfit(NamedTuple):
    """Why a text is no expression."""

    message: str
    hint: str
    offset: int  # characters from its start


class NoExpression(Exception):
    """The text is no expression."""

    def __init__(self, misfit: Misfit) -> None:
        super().__init__(misfit.message)
        self.misfit = misfit


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression.

    Attributes:
        source: as its author wrote it.
        tree: what was parsed.
        references: what it looks at, with the offset of each in the text; those it only asks
            `defined(…)` of included.
    """

    source: str
    tree: Node
    references: tuple[tuple[Reference, int], ...]

    @classmethod
    def parse(cls, source: str) -> Expression:
        """Read an expression.

        Raises:
            NoExpression: what is wrong, and where.
        """
        if len(source) > MAX_CHARS:
            raise NoExpression(
                Misfit(f"an expression has at most {MAX_CHARS} characters", "write an action", 0)
            )
        try:
            tree = _parser().parse(source)
        except UnexpectedInput as error:
            raise NoExpression(_misfit(source, error)) from error
        _refuse(tree, 0)
        return cls(source, tree, tuple(_references(tree)))

    def value(self, look: Look) -> Any:
        """Work it out.

        Raises:
            ExpressionError: a value is missing or of the wrong kind.
        """
        return _value(self.tree, look, self.source)


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR % REFERENCE, parser="lalr", lexer="contextual", propagate_positions=True)


def _misfit(source: str, error: UnexpectedInput) -> Misfit:
    offset = error.pos_in_stream if error.pos_in_stream is not None else len(source)
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return Misfit("the expression ends too early", "", len(source))
    offset = max(0, min(offset, len(source)))
    rest = source[offset:].split(maxsplit=1)[0] if source[offset:].strip() else ""
    hint = ""
    if rest.startswith("="):
        hint = "== compares"
    elif rest.startswith("${"):
        hint = "a reference looks like ${step.field} or ${input.field}"
    elif rest.startswith(("&", "|")):
        hint = "and, && for both; or, || for either"
    elif isinstance(error, UnexpectedCharacters) and rest[:1] in "\"'":
        hint = "the quotes are not closed"
    elif rest.startswith(("+", "-", "*", "/", "%")):
        hint = "there is no arithmetic here; let an action count"
    return Misfit(f"cannot read {rest[:40]!r}" if rest else "cannot read it", hint, offset)


def _refuse(node: Node | Token, depth: int) -> None:
    """Refuse what the grammar can read only to say what is wrong with it.

    Raises:
        NoExpression: a bare word, an unknown function or escape, or too deep a nest.
    """
    if isinstance(node, Token):
        return
    start = getattr(node.meta, "start_pos", 0)
    if depth > MAX_DEPTH:
        raise NoExpression(Misfit(f"nested deeper than {MAX_DEPTH} levels", "", start))
    first = node.children[0] if node.children else None
    if node.data == "bare":
        word = str(first)
        hint = f'a text needs quotes: "{word}"; a reference is written ${{{word}}}'
        if word.lower() in ("true", "false", "null", "none", "and", "or", "not"):
            hint = "write it in lower case: true, false, null, and, or, not"
        raise NoExpression(Misfit(f'"{word}" is neither a text nor a reference', hint, start))
    if node.data == "call":
        if str(first) not in FUNCTIONS:
            raise NoExpression(
                Misfit(
                    f'there is no function "{first}"', f"there are: {', '.join(FUNCTIONS)}", start
                )
            )
        if str(first) == "defined" and getattr(node.children[1], "data", "") != "reference":
            raise NoExpression(Misfit("defined(…) takes a reference", "defined(${step})", start))
    if node.data == "string":
        _text(str(first), start)
    for child in node.children:
        if child is not None:  # pyright: ignore[reportUnnecessaryComparison] - an empty list's
            _refuse(child, depth + 1)


def _references(tree: Node) -> Iterator[tuple[Reference, int]]:
    for node in tree.iter_subtrees_topdown():
        if node.data == "reference":
            yield Reference.parse(str(node.children[0])), node.meta.start_pos


_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "'": "'", "\\": "\\"}


def _text(literal: str, start: int = 0) -> str:
    def meant(found: re.Match[str]) -> str:
        try:
            return _ESCAPES[found[1]]
        except KeyError:
            raise NoExpression(
                Misfit(f"\\{found[1]} means nothing", "known: \\n \\t \\\" \\' \\\\", start)
            ) from None

    return re.sub(r"\\(.)", meant, literal[1:-1])


def _value(node: Node, look: Look, source: str) -> Any:
    """Walk the tree; `and` and `or` stop as soon as they know."""
    parts = node.children
    match str(node.data):
        case "either":
            return any(_truth(_child(part), look, source) for part in parts)
        case "both":
            return all(_truth(_child(part), look, source) for part in parts)
        case "negation":
            return not _truth(_child(parts[0]), look, source)
        case "compare":
            left, right = (_value(_child(part), look, source) for part in (parts[0], parts[2]))
            return _compare(left, str(parts[1]), right, source)
        case "member" | "no_member" as way:
            left, right = (_value(_child(part), look, source) for part in parts)
            return _contains(right, left, source) is (way == "member")
        case "call":
            return _call(str(parts[0]), _child(parts[1]), look, source)
        case "items":
            given = [part for part in parts if part is not None]  # pyright: ignore[reportUnnecessaryComparison]
            return [_value(_child(part), look, source) for part in given]
        case "reference":
            return plain(look(Reference.parse(str(parts[0]))))
        case "string":
            return _text(str(parts[0]))
        case "number":
            text = str(parts[0])
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        case name:
            return {"true": True, "false": False, "null": None}[name]


def _child(part: Node | Token) -> Node:
    return cast("Node", part)


def _truth(node: Node, look: Look, source: str) -> bool:
    value = _value(node, look, source)
    if not isinstance(value, bool):
        raise ExpressionError(
            f"{source!r}: {_shown(value)} is neither true nor false",
            hint="compare it: == null, > 0, length(…) > 0",
        )
    return value


def _call(name: str, argument: Node, look: Look, source: str) -> Any:
    if name == "defined":
        try:
            return _value(argument, look, source) is not None
        except LookupError:  # `NoResult` and `MissingValue`: that is the question
            return False
    value = _value(argument, look, source)
    if name == "lower":
        if isinstance(value, str):
            return value.lower()
        raise ExpressionError(f"{source!r}: lower({_shown(value)}) takes a text")
    if isinstance(value, str | list | Mapping):
        return len(cast("str | list[Any] | Mapping[str, Any]", value))
    raise ExpressionError(f"{source!r}: length({_shown(value)}) takes a text, a list or an object")


def _compare(left: Any, way: str, right: Any, source: str) -> bool:
    if way in ("==", "!="):
        if None not in (left, right) and _kind(left) != _kind(right):
            raise _unlike(left, way, right, source)
        return (left == right) is (way == "==")
    if _kind(left) != _kind(right) or _kind(left) not in ("number", "text", "datetime", "date"):
        raise _unlike(left, way, right, source)
    match way:
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right


def _contains(holder: Any, value: Any, source: str) -> bool:
    if isinstance(holder, str):
        if not isinstance(value, str):
            raise _unlike(value, "in", holder, source)
        return value in holder
    if isinstance(holder, list | tuple | set | frozenset):
        items = cast("list[Any]", holder)
        kinds = {_kind(item) for item in items if item is not None}
        if value is not None and kinds and _kind(value) not in kinds:
            raise _unlike(value, "in", items, source)
        return any(plain(item) == value for item in items)
    if isinstance(holder, Mapping):
        return value in holder
    raise ExpressionError(f"{source!r}: {_shown(holder)} holds nothing that could be looked for")


def _unlike(left: Any, way: str, right: Any, source: str) -> ExpressionError:
    return ExpressionError(
        f"{source!r}: cannot tell {_shown(left)} {way} {_shown(right)}: "
        f"{_kind(left)} and {_kind(right)}"
    )


def _kind(value: Any) -> str:
    value = plain(value)
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list | tuple | set | frozenset):
        return "list"
    return "null" if value is None else type(value).__name__


def plain(value: Any) -> Any:
    """A value as expressions compare it: an enumeration's member by what it stands for."""
    return value.value if isinstance(value, Enum) else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
