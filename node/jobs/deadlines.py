"""How long a run may take: what its rule says, else what the cards of its models say, else the node's own limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.card import EMBEDDED, Card
from models.errors import CardInvalid
from models.registry import cards_in
from node.file_state import file_state


class Deadlines:
    """Deadlines of cards, read again where a card has changed.

    Parameters
    ----------
    folders : sequence of Path
        The site's model folders.
    usual : float
        ``jobs.deadline_seconds``.
    """

    def __init__(self, folders: Sequence[Path], usual: float) -> None:
        self._folders = (EMBEDDED, *folders)
        self._usual = usual
        self._read: dict[Path, tuple[object, Card | None]] = {}

    def of(self, models: Sequence[str]) -> float:
        """Seconds for a run of all of ``models``, one after the other.

        Where each card states its time, their sum; else the node's limit, or what is stated where that is more.
        """
        stated = [card.runtime.deadline_seconds if (card := self._card(name)) else None for name in models]
        known = sum(each for each in stated if each is not None)
        return known if stated and None not in stated else max(known, self._usual)

    def _card(self, model: str) -> Card | None:
        """The card a registry would take: the first of that id; None where there is none, which the run itself says."""
        for folder in self._folders:
            for path in cards_in(folder):
                card = self._loaded(path)
                if card is not None and card.id == model:
                    return card
        return None

    def _loaded(self, path: Path) -> Card | None:
        state = file_state(path)
        if path not in self._read or self._read[path][0] != state:
            try:
                card = Card.load(path.parent)
            except CardInvalid:
                card = None
            self._read[path] = (state, card)
        return self._read[path][1]
