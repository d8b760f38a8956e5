"""Installed models: the embedded catalogue and the site's folders, each with one folder for each version of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.card import CARD_FILE, EMBEDDED
from models.chains.passages import Corpus
from models.chat import Chat
from models.errors import (
    CardInvalid,
    ModelNotFound,
    VersionNotChosen,
)
from models.lineage import lineage
from models.model import Model
from models.programs import Programs
from models.progress import TextProgress
from models.warm_pool import WarmPool


def cards_in(folder: Path) -> list[Path]:
    """Cards of a folder of models, sorted; a folder whose name begins with a dot is being made or put aside."""
    return [card for card in sorted(folder.glob(f"*/{CARD_FILE}")) if not card.parent.name.startswith(".")]


VERSION_SIGN = "@"
"""Between id and version, where one of several installed versions is meant: ``id@version``."""


class Registry:
    """The models of this node: the embedded catalogue first, then the site's folders.

    Several versions of one id may lie side by side, each in a folder of its own. The approved one stands behind the id
    (:meth:`serve`); any other is had by ``id@version``, to be verified and tried before it takes over. A model of the
    catalogue is the only one of its id: it cannot be replaced behind its name.

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
    models : sequence of Path or None
        Folders of single models in the place of catalogues, for a process that may see no others.
    """

    def __init__(
        self,
        folders: Sequence[Path] = (),
        threads: int = 0,
        chat: Chat | None = None,
        corpus: Corpus | None = None,
        programs: Programs | None = None,
        progress: TextProgress | None = None,
        models: Sequence[Path] | None = None,
    ) -> None:
        self._pool = WarmPool()
        self.programs = programs
        self.progress = progress
        self.chat = chat
        self.corpus = corpus
        self.problems: dict[str, CardInvalid] = {}
        self._approved: Mapping[str, str] = {}
        self._approval_required = False
        self._admitting: set[str] = set()
        self._models: dict[str, dict[str, Model]] = {}
        found = [card.parent for catalogue in (EMBEDDED, *folders) for card in cards_in(catalogue)]
        for folder in (*found, *(models or ())):
            self._add(folder, threads)

    def _add(self, folder: Path, threads: int) -> None:
        try:
            model = Model(
                folder,
                threads=threads,
                find=self.get,
                admit=self.admit,
                chat=self.chat,
                corpus=self.corpus,
                programs=self.programs,
                progress=self.progress,
                pool=self._pool,
            )
            installed = self._models.get(model.card.id, {})
            if model.card.version in installed or any(each.embedded for each in installed.values()):
                # An embedded model cannot be replaced behind its name: results name the model they came from.
                raise CardInvalid(f"{folder.name}: a model named {_named(model)} is installed already")
        except CardInvalid as error:
            self.problems[folder.name] = error
        else:
            self._models[model.card.id] = {**installed, model.card.version: model}

    def serve(self, approved: Mapping[str, str], *, required: bool = True) -> None:
        """From now on, of several versions the one with the approved digest stands behind its id.

        What is loaded of another one stays until its memory is needed.

        Parameters
        ----------
        approved : mapping
            Model id → digest of the approved files.
        required : bool
            Whether the site wants every model approved; a card may want it whatever the site does.
        """
        self._approved = approved
        self._approval_required = required

    def admit(self, model: str) -> Model:
        """The model of an id, where it may serve: what takes a place in a chain because it is there has to be wanted.

        Before :meth:`serve` was called, that is every model whose card does not ask for approval.

        Raises
        ------
        ModelNotApproved
            It, or one it is made of, is not approved and has to be.
        ModelNotFound, VersionNotChosen, CardInvalid
            As :meth:`get`; also where it is made of itself.
        """
        found = self.get(model)
        if self._approval_required or found.card.needs_approval:
            if found.card.id in self._admitting:
                raise CardInvalid(f"{found.card.id}: it is made of itself")
            self._admitting.add(found.card.id)
            try:
                found.require_approved(self._approved)
            finally:
                self._admitting.discard(found.card.id)
        return found

    def get(self, model: str) -> Model:
        """The model of an id, or the version ``id@version``.

        Raises
        ------
        ModelNotFound
            No such model, or no such version of it.
        VersionNotChosen
            Several versions are installed, and none of them is approved.
        CardInvalid
            Its card is not valid.
        """
        model_id, _, version = model.partition(VERSION_SIGN)
        if not (installed := self._models.get(model_id)):
            if model in self.problems:
                raise self.problems[model]
            raise ModelNotFound(f"no model named {model} is installed", installed=sorted(self._models))
        if version:
            if version not in installed:
                raise ModelNotFound(f"{model} is not installed; there is {', '.join(map(_named, installed.values()))}")
            return installed[version]
        return self._standing(model_id, list(installed.values()))

    def _standing(self, model_id: str, installed: Sequence[Model]) -> Model:
        if (found := next(filter(self.stands, installed), None)) is None:
            why = "the approved one is none of them" if model_id in self._approved else "none of them is approved"
            raise VersionNotChosen(f"there are {', '.join(map(_named, installed))}, and {why}")
        return found

    def asks_approvals(self, model: str) -> bool:
        """Whether it depends on approvals what ``model`` is made of: one that has to be approved may find in another's place."""
        try:
            finders = [each for one in lineage(self.get(model)) for each in one.finders[:-1]]
        except (ModelNotFound, VersionNotChosen, CardInvalid):
            return False
        return any(not each.serves_unasked for finder in finders for each in self.versions(finder.model))

    def stands(self, model: Model) -> bool:
        """Whether ``model`` is what its id alone means."""
        installed = self.versions(model.card.id)
        return len(installed) == 1 or self._approved.get(model.card.id) == model.digest

    def versions(self, model_id: str) -> tuple[Model, ...]:
        """Every installed version of an id; empty where there is none."""
        return tuple(self._models.get(model_id, {}).values())

    def with_digest(self, model: str, digest: str) -> Model | None:
        """The version of ``model`` (id, or ``id@version``) whose card and files have this digest; None where there is none."""
        model_id, _, version = model.partition(VERSION_SIGN)
        found = [each for each in self.versions(model_id) if version in ("", each.card.version)]
        return next((each for each in found if each.digest == digest), None)

    def name(self, model: Model) -> str:
        """What :meth:`get` finds it by: its id, or ``id@version`` where there are several versions."""
        return model.card.id if len(self.versions(model.card.id)) == 1 else _named(model)

    def missing(self, model: Model) -> tuple[str, ...]:
        """Ids of the models ``model`` is made of that are not installed. Raises CardInvalid."""
        return tuple(name for name in model.needs if name not in self._models)

    def unload(self) -> None:
        """Let go of whatever is loaded: models and registry hold each other, and would be kept until somebody tidies up."""
        for model in self.list():
            model.unload()

    def list(self) -> list[Model]:
        """Every version of every valid model, by id and version."""
        return [each for name in sorted(self._models) for _, each in sorted(self._models[name].items())]


def _named(model: Model) -> str:
    return f"{model.card.id}{VERSION_SIGN}{model.card.version}"
