"""Which folders of models a host is given: those that rules and its job name, in every version, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from models.card import CARD_FILE, EMBEDDED, Family
from models.errors import CardInvalid
from models.model import Model
from models.registry import VERSION_SIGN, Registry, cards_in
from node.file_state import file_state


class HostModels:
    """The site's models, read again where one has changed.

    Parameters
    ----------
    folders : sequence of Path
        The site's catalogues. What came with the product is not among the answers: every host has it.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._state: dict[Path, object] | None = None
        self._registry: Registry | None = None

    def folders_of(self, names: Iterable[str]) -> list[Path]:
        """Folders of the models of these names (``id`` or ``id@version``), sorted.

        All versions of an id: which one stands for it, approvals say from one job to the next. One whose card is not valid goes
        by its folder's name, so that its run can say what is wrong with it.
        """
        registry = self._refreshed()
        found: set[Path] = set()
        left = {name.partition(VERSION_SIGN)[0] for name in names}
        seen: set[str] = set()
        while left:
            seen.add(name := left.pop())
            for model in registry.versions(name):
                found.add(model.folder)
                left |= set(_members(model)) - seen
            if name in registry.problems:
                found |= {each / name for each in self._folders if (each / name / CARD_FILE).exists()}
        return sorted(each for each in found if not each.is_relative_to(EMBEDDED))

    def _refreshed(self) -> Registry:
        state: dict[Path, object] = {card: file_state(card) for folder in self._folders for card in cards_in(folder)}
        if self._registry is None or state != self._state:
            self._registry, self._state = Registry(self._folders), state
        return self._registry


def _members(model: Model) -> tuple[str, ...]:
    try:
        return model.members if model.card.family is Family.CHAIN else ()
    except CardInvalid:
        return ()
