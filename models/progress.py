"""How far a text is: a port, so that whoever runs a model can show it. The words themselves never go through it."""

from __future__ import annotations

from typing import Protocol


class TextProgress(Protocol):
    """Hears of every token; what it does must take no time."""

    def made(self, model: str, tokens: int, limit: int) -> None:
        """Say that a model has made so many tokens of a text.

        Parameters
        ----------
        model : str
            Its id.
        tokens : int
            So far; 1 at the first token of each text.
        limit : int
            At most.
        """
        ...
