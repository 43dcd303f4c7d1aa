"""Agents, their versions and processes, sessions and messages as tables and sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from .figures import MISSING, age, count, moment, one_line, plain
from .tables import fit, table

View = dict[str, Any]

_STYLES = {"running": "green", "starting": "cyan", "stopping": "yellow", "error": "bold red"}


def agents_table(views: Sequence[View], width: int) -> Table:
    """Agents, by name."""
    drawn = table("agent", "kind", "model", "state", "version", "description")
    for view in views:
        error = view["process"]["last_error"] if view["process"]["status"] == "error" else None
        about = Text(error["message"], "red") if error else Text(view["description"])
        drawn.add_row(
            Text(one_line(view["name"])),
            view["kind"],
            Text(one_line(model_of(view["config"]), 40)),
            state(view["process"]),
            str(view["version"]),
            Text(one_line(about.plain, 120), about.style),
        )
    return fit(drawn, width)


def model_of(config: View) -> str:
    """What answers: an alias, a provider's model, or a graph."""
    if "graph" in config:
        return str(config["graph"]["settings"]["graph"])
    settings: View = config["simple"]["settings"]
    if settings.get("model"):
        return str(settings["model"])
    return f"{settings.get('provider')}:{settings.get('model_id')}"


def state(process: View) -> Text:
    """Where a process stands, and whether people want it down."""
    status = process["status"]
    told = Text(status, _STYLES.get(status, "dim"))
    return told.append(" (off)", "dim") if process["wanted"] == "off" else told


def process_sheet(name: str, process: View) -> list[Text]:
    """A process, field by field."""
    error: View = process["last_error"] or {}
    pid, host, version = process["pid"], process["host"], process["version"]
    fields = [
        ("state", state(process)),
        ("runs", Text(f"version {version}" if version else "")),
        ("process", Text(f"{pid} on {one_line(host or '?')}" if pid else "")),
        ("started", _since(process["started_at"])),
        ("ready", _since(process["ready_at"])),
        ("heard", _since(process["heartbeat_at"])),
        ("restarts", Text(str(process["restarts"] or ""))),
        ("error", Text(one_line(error.get("message", "")), "red")),
        ("summaries", Text(_summaries(process.get("compaction")))),
    ]
    return [Text(f"agent {one_line(name)}", "bold"), *_sheet(fields)]


def _summaries(compaction: View | None) -> str:
    """Who writes them; nothing where nobody was asked."""
    if compaction is None:
        return ""
    told = f"by {compaction['model']}" if compaction["enabled"] else f"none: {compaction['reason']}"
    return one_line(told)


def agent_sheet(view: View) -> list[Text]:
    """An agent, field by field; its configuration is shown apart."""
    changed = f"version {view['version']}, {moment(view['updated_at'])}"
    fields = [
        ("id", Text(view["id"])),
        ("about", Text(one_line(view["description"]))),
        ("changed", Text(changed)),
        ("state", state(view["process"])),
    ]
    return [Text(f"agent {one_line(view['name'])}", "bold"), *_sheet(fields)]


def agent_versions_table(views: Sequence[View], width: int) -> Table:
    """Versions of an agent, newest first."""
    drawn = table("version", "since", "by", "model", "description")
    for view in views:
        back = f"brings back {view['undoes']}" if view["undoes"] else ""
        drawn.add_row(
            str(view["version"]),
            moment(view["created_at"]),
            Text(one_line(view["author"] or "", 60)),
            Text(one_line(model_of(view["config"]), 40)),
            Text(one_line(": ".join(filter(None, (back, view["description"]))), 120)),
        )
    return fit(drawn, width)


def sessions_table(views: Sequence[View], width: int) -> Table:
    """Sessions, newest first."""
    drawn = table("session", "agent", "channel", "status", "changed", "title", right=("turns",))
    for view in views:
        status = view["status"]
        drawn.add_row(
            view["id"],
            Text(one_line(view["agent"]["name"] or MISSING)),
            Text(one_line(view["channel"], 20)),
            Text(status, "" if status == "active" else "dim"),
            age(view["updated_at"]),
            Text(one_line(view["title"], 120)),
            str(view["turns"]),
        )
    return fit(drawn, width)


def session_sheet(view: View) -> list[Text]:
    """A session, field by field."""
    fields = [
        ("agent", Text(one_line(view["agent"]["name"] or MISSING))),
        ("title", Text(one_line(view["title"]))),
        ("status", Text(view["status"])),
        ("channel", Text(one_line(" ".join(filter(None, (view["channel"], view["chat_id"])))))),
        ("begun", Text(moment(view["created_at"]))),
        ("changed", Text(moment(view["updated_at"]))),
        ("length", Text(f"{count(view['turns'], 'turn')}, {count(view['messages'], 'message')}")),
    ]
    return [Text(f"session {view['id']}", "bold"), *_sheet(fields)]


def message_lines(message: View, agent: str) -> list[Text]:
    """One message: whose words, when, and the words."""
    role = message["role"]
    who = {"user": "user", "assistant": agent, "summary": "summary"}.get(role, role)
    head = Text.assemble((one_line(who), "bold" if role == "user" else "bold cyan"))
    facts = [moment(message["created_at"])]
    if message["execution_id"]:
        facts.append(f"execution {message['execution_id']}")
    if message["summary_of"]:
        facts.append(f"of {count(len(message['summary_of']), 'message')}")
    if message["summarised"]:
        facts.append("summarised")
    if message["feedback"]:
        facts.append(f"{message['feedback']}d")
    if message["comment"]:
        facts.append(f"“{one_line(message['comment'], 60)}”")
    head.append("  " + " · ".join(facts), "dim")
    return [head, *(Text(f"  {line}".rstrip()) for line in plain(message["content"]).split("\n"))]


def _since(at: str | None) -> Text:
    return Text("" if at is None else f"{moment(at)} ({age(at)} ago)")


def _sheet(fields: Sequence[tuple[str, Text]]) -> list[Text]:
    return [Text.assemble((f"  {name:<11}", "dim"), value) for name, value in fields if value.plain]
