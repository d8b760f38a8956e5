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
        stated = [self._stated(name) for name in models]
        known = sum(each for each in stated if each is not None)
        return known if stated and None not in stated else max(known, self._usual)

    def _stated(self, model: str) -> float | None:
        """The longest that a version of this id asks for; None where one asks for nothing, or none is installed."""
        cards = [card for folder in self._folders for path in cards_in(folder) if (card := self._loaded(path))]
        asked = [card.runtime.deadline_seconds for card in cards if card.id == model]
        return max((each for each in asked if each is not None), default=None) if None not in asked else None

    def _loaded(self, path: Path) -> Card | None:
        state = file_state(path)
        if path not in self._read or self._read[path][0] != state:
            try:
                card = Card.load(path.parent)
            except CardInvalid:
                card = None
            self._read[path] = (state, card)
        return self._read[path][1]
