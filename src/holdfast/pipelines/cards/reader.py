"""YAML with positions: one plain subset, bounded, no key twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from .faults import Faults, Path

MAX_BYTES = 256 * 1024
"""Of one card; prompts are long, cards are not."""

MAX_DEPTH = 40

MAX_VALUES = 20_000
"""Values of one card, each use of an alias counted anew: aliases of aliases grow no further."""

TAG = "tag:yaml.org,2002:"

PLAIN: list[tuple[str, str, str]] = [
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", "n~\0"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
]
"""What a plain scalar may mean besides a text: YAML 1.2's core schema. `no` and `on` are texts."""


class _Loader(yaml.SafeLoader):
    """Makes nodes, never objects."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute


for _name, _pattern, _first in PLAIN:
    _Loader.add_implicit_resolver(
        TAG + _name,
        re.compile(rf"^(?:{_pattern})$"),
        ["" if char == "\0" else char for char in _first],
    )


class Reader:
    """Reads one text into plain values, and notes where each stands.

    Args:
        faults: where what is wrong is noted.
        noun: what the text is, for faults.
    """

    def __init__(self, faults: Faults, noun: str = "card") -> None:
        self._faults = faults
        self._noun = noun
        self._values = 0

    def read(self, text: str) -> Any:
        """The values of the one document; None when there is a fault, which is noted then."""

        def single() -> Any:
            node = _Loader(text).get_single_node()
            return None if node is None else self._value(node, (), 0)

        return self._guarded(text, single)

    def read_all(self, text: str) -> list[Any] | None:
        """The values of all documents, each noted under its index; None when there is a fault."""

        def every() -> list[Any] | None:
            loader, values = _Loader(text), list[Any]()
            while loader.check_node():
                node = loader.get_node()
                if node is not None:
                    values.append(self._value(node, (len(values),), 0))
            return values or None

        return self._guarded(text, every)

    def _guarded(self, text: str, build: Callable[[], Any]) -> Any:
        try:
            if not self._bounded(text):
                return None
            value = build()
            if value is None and not self._faults.places:
                self._faults.add((), f"the {self._noun} is empty")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._at(mark, f"this is no YAML: {error.problem or error.context}", _hint(text, mark))
        except yaml.YAMLError as error:  # a character YAML does not allow
            self._faults.add((), f"this is no YAML: {error}")
        else:
            return None if self._faults.found else value
        return None

    def _bounded(self, text: str) -> bool:
        """Before anything is built out of it."""
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            self._faults.add((), f"a {self._noun} has at most {MAX_BYTES // 1024} KB")
            return False
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    self._at(event.start_mark, f"nested deeper than {MAX_DEPTH} levels")
                    return False
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        return True

    def _value(self, node: Node, path: Path, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            if self._values <= MAX_VALUES + 1 or not self._faults.found:
                self._at(node.start_mark, f"more than {MAX_VALUES} values, aliases counted in full")
                self._values = MAX_VALUES + 1
            return None
        mark: Any = node.start_mark
        quoted = isinstance(node, ScalarNode) and node.style in ("'", '"')
        self._faults.places[path] = (mark.line + 1, mark.column + 1 + quoted)
        if isinstance(node, MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            values: list[Any] = []
            for index, item in enumerate(cast("list[Node]", node.value)):
                if self._values > MAX_VALUES:
                    break
                values.append(self._value(item, (*path, index), depth + 1))
            return values
        return self._scalar(cast("ScalarNode", node))

    def _mapping(self, node: MappingNode, path: Path, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if node.tag != f"{TAG}map":
            self._at(node.start_mark, f"the tag {node.tag} means nothing here")
        for key, item in cast("list[tuple[Node, Node]]", node.value):
            if self._values > MAX_VALUES:
                break
            if not isinstance(key, ScalarNode) or key.tag != f"{TAG}str":
                self._at(key.start_mark, "a key must be a text", "put it in quotes")
                continue
            name = str(key.value)
            where = (*path, name)
            if name in values:
                first = self._faults.keys[where][0]
                self._at(key.start_mark, f'the key "{name}" stands in line {first} already')
                continue
            mark: Any = key.start_mark
            self._faults.keys[where] = (mark.line + 1, mark.column + 1)
            values[name] = self._value(item, where, depth + 1)
        return values

    def _scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(TAG):
            case "str":
                return text
            case "bool":
                return text == "true"
            case "null":
                return None
            case "int":
                if len(text) <= 4000:  # more digits than Python reads
                    return int(text)
                self._at(node.start_mark, "a number of more than 4000 digits")
                return None
            case "float":
                return float(text)
            case _:
                self._at(
                    node.start_mark,
                    f"the tag {node.tag} means nothing here",
                    "put a text that begins with ! in quotes" if node.tag.startswith("!") else "",
                )
                return None

    def _at(self, mark: Any, message: str, hint: str = "") -> None:
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        self._faults.places[("", line, column)] = (line, column)
        self._faults.add(("", line, column), message, hint=hint)


def _hint(text: str, mark: Any) -> str:
    """Many an expression must be in quotes to be a YAML text."""
    lines = text.splitlines()
    number: int = len(lines) if mark is None else mark.line
    line = lines[number] if number < len(lines) else ""
    return "put the expression in quotes" if "${" in line or "!" in line else ""
