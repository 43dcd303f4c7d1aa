"""`holdfast agents chat`: a conversation in the terminal, or through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from holdfast.errors import HoldfastError, InvalidInput, NotFound

from .door import Background, Json, Url, in_background

if TYPE_CHECKING:
    from holdfast.client import Client

View = dict[str, Any]

CHANNEL = "cli"

MEMORY = "chats.json"
"""In the home folder: the last session with each agent, by its id."""

TITLE_CHARS = 60

YOU = "you › "
"""Before what is typed; the agent's name stands before what it says."""


def chat(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An agent, as `list` shows it.")],
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Go on with this conversation.")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin another conversation.")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Talk with an agent; each line is a message.

    It goes on with the last conversation on this machine. Ctrl-C stops an answer; Ctrl-D, or
    Ctrl-C where nothing is being said, ends the talk. With something else than a terminal on
    standard input the answers alone go to standard output.
    """
    if session is not None and new:
        raise InvalidInput("--session goes on with a conversation, --new begins one: not both")
    with in_background(url) as hub:
        agent = hub.call(lambda client: client.agent(name))
        memory = Memory.at_home()
        talk = Talk(hub, agent, memory)
        talk.find(session or (None if new else memory.get(agent["id"])), named=session is not None)
        if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
            _at_terminal(talk)
        elif not _through_pipe(talk, as_json=as_json):
            raise typer.Exit(1)


class Memory:
    """Which session was the last with each agent."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @classmethod
    def at_home(cls) -> Memory:
        """The one in the folder of the settings."""
        from holdfast.settings import load

        return cls(load().home / MEMORY)

    def get(self, agent_id: str) -> str | None:
        """The session's id; None when there was none."""
        found = self._read().get(agent_id)
        return found if isinstance(found, str) else None

    def put(self, agent_id: str, session_id: str) -> None:
        """Keep it for the next time."""
        import orjson

        kept = self._read()
        if kept.get(agent_id) == session_id:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        written = self._file.with_suffix(".tmp")
        written.write_bytes(orjson.dumps({**kept, agent_id: session_id}))
        written.replace(self._file)

    def _read(self) -> View:
        import orjson

        try:
            kept: Any = orjson.loads(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError) as error:
            raise InvalidInput(
                f"{self._file}, which names the last conversations, cannot be read: {error}",
                hint="delete it; the conversations themselves are elsewhere",
            ) from error
        return cast("View", kept) if isinstance(kept, dict) else {}


class Talk:
    """A conversation with one agent.

    Attributes:
        agent: as the API shows it.
        session: the same; None before the first message of a new one.
    """

    def __init__(self, hub: Background, agent: View, memory: Memory) -> None:
        self.agent = agent
        self.session: View | None = None
        self._hub = hub
        self._memory = memory
        self._event_id: str | None = None

    def find(self, session_id: str | None, *, named: bool) -> None:
        """Go on with a session.

        Args:
            session_id: which; None: a new one, made with the first message.
            named: by the user, who wants this one and no other.

        Raises:
            InvalidInput: it is another agent's.
            NotFound: there is none of that id.
        """
        if session_id is None:
            return
        try:
            found = self._hub.call(lambda client: client.session(session_id))
        except NotFound:
            if named:
                raise
            return  # it was deleted since
        if found["agent"]["id"] != self.agent["id"]:
            told = f"session {session_id} is one with {found['agent']['name'] or 'another agent'}"
            raise InvalidInput(told, hint=f"see: holdfast sessions list {self.agent['name']}")
        if named or found["status"] == "active":
            self.session = found

    def say(self, text: str, show: Callable[[str, View], None]) -> View:
        """Say something and hear what comes of it; the last entry of the turn, with its `kind`.

        Args:
            text: what is said.
            show: called with the kind and the data of each entry.

        Raises:
            KeyboardInterrupt: Ctrl-C; the turn was cancelled.
        """
        self._event_id = None

        async def turn(client: Client) -> View:
            if self.session is None:
                title = " ".join(text.split())[:TITLE_CHARS]
                agent_id = self.agent["id"]
                self.session = await client.make_session(agent_id, title=title, channel=CHANNEL)
            session_id, last = self.session["id"], View()
            self._memory.put(self.agent["id"], session_id)
            async for entry in client.talk(
                self.agent["id"], text, session_id=session_id, channel=CHANNEL
            ):
                last = {**entry.data, "kind": entry.type}
                if entry.type == "accepted":
                    self._event_id = entry.data["id"]
                show(entry.type, entry.data)
                if entry.data.get("agent_status") in DOWN:
                    break
            return {"session_id": session_id, "event_id": self._event_id, **last}

        try:
            return self._hub.call(turn)
        except KeyboardInterrupt:
            if (event_id := self._event_id) is not None:
                self._hub.call(lambda client: client.cancel_event(event_id))
            raise

    def execution(self, execution_id: str) -> View:
        """What was recorded of a turn."""
        return self._hub.call(lambda client: client.execution(execution_id))


DOWN = frozenset({"off", "error"})
"""What an agent's status says when nobody will answer before a person acts."""


def _at_terminal(talk: Talk) -> None:
    from .talking import Screen
    from .terminal import complain, console

    out = console()
    _greet(talk)
    for text in _typed():
        screen = Screen(out, talk.agent["name"])
        try:
            last = talk.say(text, screen.take)
        except KeyboardInterrupt:
            screen.aside("stopped")
        except HoldfastError as error:
            screen.stop()
            complain(error)  # the next message may fare better
        else:
            screen.stop()
            _after(talk, last, screen.aside)


def _greet(talk: Talk) -> None:
    from .terminal import tell

    name = talk.agent["name"]
    if talk.session is None:
        tell(f"You talk with {name}, version {talk.agent['version']}. Ctrl-D ends it.", "dim")
    else:
        title = f" “{talk.session['title']}”" if talk.session["title"] else ""
        turns = talk.session["turns"]
        count = "one turn" if turns == 1 else f"{turns} turns"
        tell(f"You go on with {name}{title}, {count} so far; --new begins another.", "dim")


def _typed() -> Iterator[str]:
    import_module("readline")  # `input` edits lines with it

    while True:
        try:
            text = input(YOU)
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return
        if text.strip():
            yield text


def _through_pipe(talk: Talk, *, as_json: bool) -> bool:
    """Whether every message was answered."""
    from .figures import plain
    from .talking import questions
    from .terminal import tell, write_json

    well = True
    for line in sys.stdin:
        if not (text := line.rstrip("\r\n")).strip():
            continue
        try:
            last = talk.say(text, lambda _kind, _data: None)
        except KeyboardInterrupt:
            tell("stopped", "dim")
            raise typer.Exit(130) from None
        well = well and last["kind"] in ("message", "waiting") and not last.get("error")
        if as_json:
            write_json(last, line=True)
            continue
        said = [last["response"]] if last["kind"] == "message" else []
        for one in said or questions(last.get("waits") or []):
            sys.stdout.write(f"{plain(one)}\n")
        sys.stdout.flush()
        _after(talk, last, lambda text: tell(text, "dim"))
    return well


def _after(talk: Talk, last: View, say: Callable[[str], None]) -> None:
    """What is to be known besides the answer."""
    from .talking import footer, takes_message

    name = talk.agent["name"]
    execution_id = last.get("execution_id")
    if last["kind"] == "waiting":
        if not takes_message(last["waits"]):
            say(f"answer with: holdfast executions resume {execution_id or 'ID'}")
    elif last["kind"] in ("accepted", "status"):
        why = "is stopped" if last.get("agent_status") == "off" else "cannot start"
        say(f"{name} {why}; your message waits. See: holdfast agents status {name}")
    elif last["kind"] == "error":
        say(f"{name} cannot answer: {last.get('message')}")
    if execution_id is not None and last["kind"] == "message":
        say(footer(talk.execution(execution_id)))
    if last.get("error") and execution_id is not None:
        say(f"what went wrong: holdfast executions show {execution_id}")
