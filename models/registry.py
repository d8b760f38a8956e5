"""Installed models: the embedded catalogue and the site's folders, each with one folder a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.card import CARD_FILE, EMBEDDED, Card
from models.chains.passages import Corpus
from models.chat import Chat
from models.errors import (
    CardInvalid,
    ModelNotFound,
)
from models.model import Model
from models.programs import Programs
from models.progress import TextProgress
from models.warm_pool import WarmPool


def cards_in(folder: Path) -> list[Path]:
    """Cards of a folder of models, sorted; a folder whose name begins with a dot is being made or put aside."""
    return [card for card in sorted(folder.glob(f"*/{CARD_FILE}")) if not card.parent.name.startswith(".")]


class Registry:
    """The models of this node: the embedded catalogue first, then the site's folders, each with one folder a model.

    A folder whose card is not valid does not hide the others: it is kept in :attr:`problems` and raised by
    :meth:`get` when asked for by its folder's name.

    Parameters
    ----------
    folders : sequence of Path
        Site catalogues.
    threads : int
        Threads within one operator; 0 leaves it to the runtime.
    chat : Chat or None
        Who talks to models elsewhere; None where nobody does.
    corpus : Corpus or None
        The site's de-identified reports; None where there are none.
    programs : Programs or None
        Who runs the programs of external models; None where nobody does.
    progress : TextProgress or None
        Who hears how far a text is.
    """

    def __init__(
        self,
        folders: Sequence[Path] = (),
        threads: int = 0,
        chat: Chat | None = None,
        corpus: Corpus | None = None,
        programs: Programs | None = None,
        progress: TextProgress | None = None,
    ) -> None:
        self._pool = WarmPool()
        self.programs = programs
        self.progress = progress
        self.chat = chat
        self.corpus = corpus
        self.problems: dict[str, CardInvalid] = {}
        self._models: dict[str, Model] = {}
        for catalogue in (EMBEDDED, *folders):
            for card in cards_in(catalogue):
                self._add(card.parent, threads)

    def _add(self, folder: Path, threads: int) -> None:
        try:
            model = Model(
                folder,
                threads=threads,
                find=self.get,
                chat=self.chat,
                corpus=self.corpus,
                programs=self.programs,
                progress=self.progress,
                pool=self._pool,
            )
            if model.card.id in self._models:
                # An embedded model cannot be replaced behind its name: results name the model they came from.
                raise CardInvalid(f"{folder.name}: a model named {model.card.id} is installed already")
        except CardInvalid as error:
            self.problems[folder.name] = error
        else:
            self._models[model.card.id] = model

    def get(self, model_id: str) -> Model:
        """The model ``model_id``.

        Raises
        ------
        ModelNotFound
            No such model.
        CardInvalid
            Its card is not valid.
        """
        if model_id in self._models:
            return self._models[model_id]
        if model_id in self.problems:
            raise self.problems[model_id]
        raise ModelNotFound(f"no model named {model_id} is installed", installed=sorted(self._models))

    def missing(self, model_id: str) -> tuple[str, ...]:
        """Ids of the models ``model_id`` is made of that are not installed. Raises as :meth:`get`."""
        return tuple(name for name in self.get(model_id).needs if name not in self._models)

    def list(self) -> list[Card]:
        """Cards of all valid models, by id."""
        return [self._models[name].card for name in sorted(self._models)]
