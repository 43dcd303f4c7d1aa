"""A pipeline's graph as text and as a Mermaid flowchart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from .figures import one_line

View = dict[str, Any]

START, END = "__start__", "__end__"
NAMES = {START: "start", END: "end"}

_SHAPES = {"router": ("{{", "}}"), "loop": ("{{", "}}"), "start": ("([", "])"), "end": ("([", "])")}
_MARKS = {
    "router": "◆",
    "loop": "↻",
    "parallel": "‖",
    "map": "≡",
    "pipeline": "▣",
    "model": "●",
    "start": "○",
}


def draw_graph(graph: View) -> list[Text]:
    """Each node on a line of its own in the order things run, with where it leads.

    Rules of a router and branches of a parallel group stand indented under it.
    """
    nodes = {node["name"]: node for node in graph["nodes"]}
    ways: dict[str, list[View]] = {}
    for edge in graph["edges"]:
        ways.setdefault(edge["from"], []).append(edge)
    groups: dict[str, list[View]] = {}
    for node in graph["nodes"]:
        if above := _above(node):
            groups.setdefault(above, []).append(node)
    lines: list[Text] = []
    outer = [name for name in in_order(graph) if name != END and not _above(nodes[name])]
    size = max((cell_len(_name(name)) for name in outer), default=0)
    room = max((cell_len(_about(nodes[name])) for name in outer), default=0)
    for name in outer:
        branches, leads = groups.get(name, []), ways.get(name, [])
        lines.append(_node_line(nodes[name], size, room, leads))
        lines += _branch_lines(branches)
        if _is_choice(leads):
            lines += _rule_lines(leads)
    return lines


def in_order(graph: View) -> list[str]:
    """Node names so that each comes after all that lead to it; loops where they begin."""
    names = [node["name"] for node in graph["nodes"]]
    following: dict[str, list[str]] = {name: [] for name in names}
    for edge in graph["edges"]:
        following.setdefault(edge["from"], []).append(edge["to"])
    done: dict[str, None] = {}
    seen: set[str] = set()
    for root in (START, *names):
        if root in seen or root not in following:
            continue
        seen.add(root)
        path = [(root, iter(reversed(following[root])))]
        late: list[str] = []
        while path:
            way = next((one for one in path[-1][1] if one not in seen), None)
            if way is None:
                late.append(path.pop()[0])
            else:
                seen.add(way)
                path.append((way, iter(reversed(following.get(way, [])))))
        done.update(dict.fromkeys(reversed(late)))
    return list(done)


def mermaid(graph: View) -> str:
    """A flowchart to paste where Mermaid is drawn; names are quoted and cannot break out."""
    ids = {node["name"]: f"n{n}" for n, node in enumerate(graph["nodes"])}
    lines = ["flowchart TD"]
    for node in graph["nodes"]:
        opening, closing = _SHAPES.get(node["kind"], ("[", "]"))
        if not node.get("group"):
            lines.append(f'  {ids[node["name"]]}{opening}"{_quoted(node)}"{closing}')
    for group in dict.fromkeys(node["group"] for node in graph["nodes"] if node.get("group")):
        lines.append(f'  subgraph g{ids[group]}["branches of {_escaped(group)}"]')
        for node in graph["nodes"]:
            if node.get("group") == group:
                lines.append(f'    {ids[node["name"]]}["{_quoted(node)}"]')
        lines += ["  end", f"  {ids[group]} -.- g{ids[group]}"]
    for node in graph["nodes"]:
        if failing := node.get("stands_in_for"):
            lines.append(f"  {ids[failing]} -.->|fails| {ids[node['name']]}")
    for edge in graph["edges"]:
        label = f'|"{_escaped(edge["label"])}"|' if edge.get("label") else ""
        lines.append(f"  {ids[edge['from']]} -->{label} {ids[edge['to']]}")
    return "\n".join(lines) + "\n"


def _above(node: View) -> str | None:
    """The node under which this one is drawn: its group, or what it stands in for."""
    return node.get("group") or node.get("stands_in_for")


def _name(name: str) -> str:
    return NAMES.get(name) or one_line(name)


def _is_choice(leads: Sequence[View]) -> bool:
    return len(leads) > 1 or any(edge.get("label") for edge in leads)


def _node_line(node: View, size: int, room: int, leads: Sequence[View]) -> Text:
    name, about = _name(node["name"]), _about(node)
    line = Text().append(f"{_MARKS.get(node['kind'], '▪')} ", "cyan")
    line.append(name.ljust(size + len(name) - cell_len(name)), "bold")
    line.append(f"  {about}".ljust(2 + room + len(about) - cell_len(about)), "dim")
    if not _is_choice(leads) and node["kind"] != "end":
        line.append(f"  → {_name(leads[0]['to']) if leads else 'end'}")
    line.rstrip()
    return line


def _about(node: View) -> str:
    """Kind, and what else the node says of itself: alias, answer's schema."""
    if node["kind"] == "start":
        return ""
    parts = [node["kind"], *(node[key] for key in ("alias", "answer") if node.get(key))]
    parts += _policy(node.get("policy") or {})
    if node.get("at_once"):
        parts.append(f"{node['at_once']} at once")
    if node.get("stands_in_for"):
        parts.append("stands in when it fails")
    if node.get("on_failure") == "continue":
        parts.append("goes on when a branch fails")
    elif (node.get("policy") or {}).get("on_failure") == "continue":
        parts.append("may fail")
    return " · ".join(one_line(part) for part in parts)


def _policy(policy: View) -> list[str]:
    """What it may take, how often it is tried, how many at once."""
    told: list[str] = []
    if seconds := policy.get("timeout") or policy.get("total_timeout"):
        told.append(f"{seconds:g} s")
    if retries := policy.get("retries"):
        told.append("1 retry" if retries == 1 else f"{retries} retries")
    if policy.get("concurrency"):
        told.append(f"{policy['concurrency']} at once")
    if policy.get("cache"):
        told.append("cached")
    return told


def _branch_lines(branches: Sequence[View]) -> list[Text]:
    size = max((cell_len(one_line(node["name"])) for node in branches), default=0)
    lines: list[Text] = []
    for n, node in enumerate(branches, 1):
        line = Text().append("  └─ " if n == len(branches) else "  ├─ ", "dim")
        name = one_line(node["name"])
        line.append(name.ljust(size + len(name) - cell_len(name)), "bold")
        lines.append(line.append(f"  {_about(node)}", "dim"))
    return lines


def _rule_lines(leads: Sequence[View]) -> list[Text]:
    labels = [one_line(edge.get("label") or "", 60) for edge in leads]
    size = max(cell_len(label) for label in labels)
    lines: list[Text] = []
    for n, (edge, label) in enumerate(zip(leads, labels, strict=True), 1):
        line = Text().append("  └─ " if n == len(leads) else "  ├─ ", "dim")
        if size:
            line.append(label.ljust(size + len(label) - cell_len(label)) + " ", "cyan")
        lines.append(line.append(f"→ {_name(edge['to'])}"))
    return lines


def _quoted(node: View) -> str:
    about = f"<br/><small>{_escaped(_about(node))}</small>" if _about(node) else ""
    kind_only = node["kind"] in ("start", "end")
    return _escaped(_name(node["name"])) + ("" if kind_only else about)


def _escaped(text: str) -> str:
    """Mermaid takes `#code;` for a character; only plain ones stand for themselves."""
    return re.sub(r"[^\w .,:=()/→·–-]", lambda found: f"#{ord(found[0])};", one_line(text))
