"""Cards off the disk: read, checked and declared, every fault told with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import DeclarationError
from holdfast.llm.scripted import Script
from holdfast.pipelines.base import Declaration, Declarations

from .actions import Catalogue, Usable
from .build import Builder, CardPipeline
from .check import Checked
from .faults import Fault, Faults, near, raise_for
from .model import CardShape
from .shaped import read_card

ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Source:
    """A card's text and where it stands."""

    file: str
    text: str


class Cards(Declarations):
    """The pipelines that an app's cards declare.

    What is wrong with a card does not stop the app from being imported: it is told when the app is
    loaded, and by `holdfast cards check`.

    Attributes:
        files: where they stand.
        catalogue: what they may use.
        faults: what is wrong with them.
    """

    def __init__(
        self, sources: Iterable[Source], catalogue: Catalogue, *, script: Script | None = None
    ) -> None:
        """Read, check and declare them; what is wrong is kept as faults."""
        self.catalogue = catalogue
        self.script = script
        self.faults: list[Fault] = []
        self.files: list[str] = []
        self._read: dict[str, _Read] = {}
        self._made: dict[str, Declaration] = dict(catalogue.pipelines)
        for source in sources:
            self.files.append(source.file)
            self._take(source)
        for name in self._read:
            self._declare(name, ())
        self.faults.sort()

    def __getitem__(self, name: str) -> CardPipeline:
        """A card's pipeline by its name.

        Raises:
            DeclarationError: there is no such card, or something is wrong with it.
        """
        read = self._read.get(name)
        if read is None or read.pipeline is None:
            raise_for(self.faults)
            raise DeclarationError(f'there is no card "{name}"', hint=near(name, set(self._read)))
        return read.pipeline

    def __iter__(self) -> Iterator[CardPipeline]:
        return iter(self.declarations())

    def declarations(self) -> list[CardPipeline]:
        """The pipelines of those with which nothing is wrong."""
        return [one.pipeline for one in self._read.values() if one.pipeline is not None]

    def proven(self) -> list[CardPipeline]:
        """All of them.

        Raises:
            CardError: something is wrong with one; every fault is named.
        """
        raise_for(self.faults)
        return self.declarations()

    def _take(self, source: Source) -> None:
        faults = Faults(source.file)
        card = read_card(source.text, faults)
        if card is not None and card.name in self._read:
            first = self._read[card.name].source.file
            faults.add(("name",), f'the card "{card.name}" is in {first} already')
        elif card is not None and card.name in self._made:
            faults.add(("name",), f'the app declares a pipeline "{card.name}" in Python already')
        elif card is not None:
            self._read[card.name] = _Read(source, card, faults)
            return
        self.faults += faults.sorted()

    def _declare(self, name: str, path: tuple[str, ...]) -> None:
        """Declare a card after those it includes."""
        read = self._read[name]
        if read.done:
            return
        for place, other in _included(read.card):
            if other in (*path, name):
                told = " → ".join([*path, name, other])
                read.faults.add(place, f"cards include each other: {told}")
            elif other in self._read:
                self._declare(other, (*path, name))
        if read.done:  # by way of itself
            return
        read.done = True
        broken = {other for other, one in self._read.items() if one.done and one.pipeline is None}
        self._made_of(read, broken - {name})
        self.faults += read.faults.sorted()

    def _made_of(self, read: _Read, broken: set[str]) -> None:
        faults = read.faults
        for place, other in _included(read.card):
            if other in broken:
                faults.add(place, f'the card "{other}" has faults of its own')
        without = [other for other, one in self._read.items() if one.pipeline is None]
        known = {**self._made, **dict.fromkeys(without)}  # what is wrong with those is told there
        checked = Checked(read.card, faults, self.catalogue, known)
        if faults.found:
            return
        try:
            pipeline = CardPipeline(
                checked, file=read.source.file, text=read.source.text, script=self.script
            )
            Builder(pipeline, checked, self.catalogue, self._made).build().check()
        except DeclarationError as error:
            place = next(
                (
                    ("steps", step)
                    for step in read.card.steps
                    if f'"{step}"' in error.message or f"{step} →" in error.message
                ),
                ("budget",) if "budget" in error.message and read.card.budget else ("name",),
            )
            faults.add(place, error.message, hint=error.hint, key=len(place) > 1)
            return
        read.pipeline = self._made[read.card.name] = pipeline


@dataclass(slots=True)
class _Read:
    source: Source
    card: CardShape
    faults: Faults
    pipeline: CardPipeline | None = None
    done: bool = False


def load_cards(
    folder: str | Path, *, uses: Iterable[Usable] = (), scripted: Script | None = None
) -> Cards:
    """Declare the cards of a folder.

    An app names what it gives: `cards = load_cards(Path(__file__).parent / "cards")`.

    Args:
        folder: its `.yaml` and `.yml` files are cards, those in folders below it too; or one file.
        uses: actions, pipelines and schemas the cards may name; a module for all that is in it.
        scripted: rules that answer where a model alias is scripted, not a real model.

    Raises:
        DeclarationError: `uses` names two things alike, or the folder has no card. What is wrong
            in a card is told when the app is loaded.
    """
    return Cards(sources_in(folder), Catalogue.of(uses), script=scripted)


def load_card(
    file: str | Path, *, uses: Iterable[Usable] = (), scripted: Script | None = None
) -> CardPipeline:
    """Declare one card.

    Raises:
        CardError: something is wrong with it; every fault is named.
        DeclarationError: as `load_cards`.
    """
    if Path(file).is_dir():
        raise DeclarationError(f"{file} is a folder", hint="load_cards takes all cards in it")
    (pipeline,) = load_cards(file, uses=uses, scripted=scripted).proven()
    return pipeline


def sources_in(place: str | Path) -> list[Source]:
    """The cards of a folder, or the one file.

    Raises:
        DeclarationError: there is none, or one cannot be read.
    """
    place = Path(place)
    files = (
        sorted(file for file in place.rglob("*") if file.suffix in ENDINGS and file.is_file())
        if place.is_dir()
        else [place]
    )
    if not files:
        raise DeclarationError(f"{place} has no cards", hint=f"they end in {' or '.join(ENDINGS)}")
    try:
        return [Source(str(file), file.read_text("utf-8")) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"a card of {place} cannot be read: {error}") from error


def _included(card: CardShape) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Pipelines that a card's steps name, with the place."""
    for name, step in card.steps.items():
        if step.execute is not None and step.execute.pipeline is not None:
            yield ("steps", name, "execute", "pipeline"), step.execute.pipeline
        if step.subprocess is not None:
            yield ("steps", name, "subprocess", "pipeline"), step.subprocess.pipeline
