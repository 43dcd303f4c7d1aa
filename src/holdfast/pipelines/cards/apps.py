"""Check cards for the apps that use them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import AppError, HoldfastError

from .actions import Catalogue
from .build import CardPipeline
from .faults import Fault
from .load import Cards, Source, sources_in


@dataclass(frozen=True, slots=True)
class Report:
    """What a check of cards found.

    Attributes:
        files: the cards that were checked.
        faults: what is wrong with them.
    """

    files: list[str]
    faults: list[Fault]


def check_cards(files: Sequence[Path], apps: Sequence[str]) -> Report:
    """Check cards against what the apps offer them.

    Args:
        files: cards, or folders of cards; without any, those that the apps load.
        apps: dotted paths of modules: their actions, pipelines, schemas and cards can be named.

    Raises:
        AppError: an app cannot be imported, or there is no card to check.
        DeclarationError: a file cannot be read.
    """
    known = Catalogue()
    sources: dict[Path, Source] = {}
    for app in apps:
        offered, loaded = _offered(app)
        for one in (*(cards.catalogue for cards in loaded), offered):
            known.actions.update(one.actions)
            known.schemas.update(one.schemas)
            known.pipelines.update(one.pipelines)
        for file in [file for cards in loaded for file in cards.files]:
            sources[Path(file).resolve()] = sources_in(file)[0]
    # A card is checked as it stands on the disk now, not as the app has loaded it.
    pipelines = {
        name: one for name, one in known.pipelines.items() if not isinstance(one, CardPipeline)
    }
    asked = [source for file in files for source in sources_in(file)] or list(sources.values())
    if not asked:
        raise AppError(
            "there is no card to check", hint="name a file, or an app that loads cards: --app"
        )
    sources |= {Path(source.file).resolve(): source for source in asked}
    wanted = {source.file for source in asked}
    checked = Cards(sources.values(), Catalogue(known.actions, pipelines, known.schemas))
    return Report(
        [source.file for source in asked], [one for one in checked.faults if one.file in wanted]
    )


def _offered(app: str) -> tuple[Catalogue, list[Cards]]:
    path = app.partition(":")[0]
    try:
        module = importlib.import_module(path)
    except (Exception, SystemExit) as error:  # an app may raise anything
        raise AppError(
            f"app {app} cannot be imported: {type(error).__name__}: {error}",
            hint="its cards cannot be checked without what they use",
        ) from error
    try:
        offered = Catalogue.of([module])
    except HoldfastError as error:
        raise AppError(f"app {app}: {error.message}", hint=error.hint) from error
    return offered, [value for value in vars(module).values() if isinstance(value, Cards)]
