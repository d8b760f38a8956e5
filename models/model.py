"""One installed model: files verified against their pinned digests, sessions kept warm, what it can be asked."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from models.adapter import AnsweringAdapter, AskedAdapter, ImageAdapter, PromptedAdapter, WritingAdapter
from models.card import EMBEDDED, Card, model_digest
from models.chains.finders import Finder
from models.chains.passages import Corpus
from models.chat import Chat, TextPart
from models.errors import (
    CardInvalid,
    ModelError,
    ModelNotApproved,
    ModelNotFound,
    ParameterInvalid,
    SelfTestFailed,
)
from models.golden import deviation
from models.limits import require_within
from models.lineage import lineage, member_versions
from models.loaded_graphs import LoadedGraphs
from models.placement import Left
from models.programs import Programs
from models.progress import TextProgress
from models.prompts import BoxPrompt
from models.questions import Question
from models.results import Draft, ModelReference, StudyResult
from models.runtime_settings import RunsWith
from models.session import Session
from models.volume import Volume
from models.warm_pool import WarmPool


class Model:
    """One installed model.

    Parameters
    ----------
    folder : Path
        Folder of its card and files.
    threads : int
        Threads within one operator; 0 leaves it to the runtime.
    find : callable, optional
        Finds another installed model by id.
    admit : callable, optional
        As ``find``, but only what may serve on this node; else :class:`ModelNotApproved`.
    chat : Chat or None
        Who talks to models elsewhere; None where nobody does.
    corpus : Corpus or None
        The site's de-identified reports; None where there are none.
    programs : Programs or None
        Who runs the programs of external models; None where nobody does.
    progress : TextProgress or None
        Who hears how far a text is; None where nobody does.

    pool : WarmPool or None
        With which other models it shares memory; None: with none.

    Attributes
    ----------
    graphs : LoadedGraphs
        What of it is loaded, and where.

    Raises
    ------
    CardInvalid
        The card is not valid.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 0,
        find: Callable[[str], Model] | None = None,
        admit: Callable[[str], Model] | None = None,
        chat: Chat | None = None,
        corpus: Corpus | None = None,
        programs: Programs | None = None,
        progress: TextProgress | None = None,
        pool: WarmPool | None = None,
    ) -> None:
        self.folder = folder
        self._progress = progress
        self.programs = programs
        self.chat = chat
        self.corpus = corpus
        self.card = Card.load(folder)
        self._find = find or _alone
        self.graphs = LoadedGraphs(folder, self.card, threads=threads, pool=pool or WarmPool())
        self._admit = admit or self._find
        self.fault: ModelError | None = None
        """Why it takes no place for which others stand ready: what its last test came to."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the card's bytes and the pinned digests of graphs and files."""
        return model_digest(self.folder, self.card)

    @property
    def provider(self) -> str:
        """Execution provider that runs it, or would."""
        return self.graphs.provider

    @property
    def runs_with(self) -> RunsWith:
        """What the card's ``[runtime]`` comes to on this node and machine."""
        return self.graphs.runs_with

    @property
    def left(self) -> Left | None:
        """Why it left a device for the CPU; None where it did not."""
        return self.graphs.left

    def session(self, name: str) -> Session:
        """Session of a graph; see :meth:`models.loaded_graphs.LoadedGraphs.session`."""
        return self.graphs.session(name)

    def unload(self) -> bool:
        """Let go of every loaded graph; False where there is none."""
        return self.graphs.unload()

    def fall_back_to_cpu(self, why: Left = Left.ANSWERS) -> bool:
        """Use the CPU from now on; see :meth:`models.loaded_graphs.LoadedGraphs.fall_back_to_cpu`."""
        return self.graphs.fall_back_to_cpu(why)

    def verify(self) -> None:
        """Compare every pinned file with its digest, now. Raises DigestMismatch."""
        self.graphs.verify()

    def reference(self, parameters: Mapping[str, str], members: Sequence[Model] | None = None) -> ModelReference:
        """Which model this is, exactly, with the settings that change a result and the provider that runs it.

        Another version of a member is another chain: of a chain, the models it is made of are among the parameters;
        ``members`` are those that made this result, where it may be made of several sets of them.
        """
        made_of = lineage(self)[1:] if members is None else [each for one in members for each in lineage(one)]
        return ModelReference(
            model_id=self.card.id,
            version=self.card.version,
            name=self.card.name,
            manufacturer=self.card.manufacturer,
            digest=self.digest,
            provider=self.provider,
            parameters=dict(sorted({**member_versions(made_of), **parameters}.items())),
        )

    def path(self, name: str) -> Path:
        """Path of the pinned file ``name`` of the card's ``files``, verified once.

        Raises
        ------
        DigestMismatch, CardInvalid
        """
        if name not in self.card.files:
            raise CardInvalid(f"{self.card.id}: the card pins no file named {name}")
        return self.graphs.once(self.card.files[name])

    def on_token(self, limit: int) -> Callable[[Sequence[int]], None] | None:
        """What a text of at most ``limit`` tokens is to call with its tokens so far; only their number is passed on."""
        hears = self._progress
        return None if hears is None else lambda tokens: hears.made(self.card.id, len(tokens), limit)

    def warm(self) -> None:
        """Load every graph, so that the first study does not wait for it. Raises as :meth:`session`."""
        for name in self.card.graphs:
            self.session(name)
        _ = self._adapter

    def self_test(self) -> dict[str, float]:
        """Ask every graph that has a known answer; how far each is from it, relative.

        Raises
        ------
        SelfTestFailed
            A graph answers something else than it should: nothing it says can be trusted on this device.
        DigestMismatch, ModelError
            A file is not the pinned one, or a graph does not run.
        """
        found = {}
        for name, golden in self.card.golden.items():
            session = self.session(name)
            found[name] = deviation(session, self.graphs.once(golden))
            if not found[name] <= golden.tolerance:
                raise SelfTestFailed(
                    f"{self.card.id}: graph {name} is {found[name]:.1e} from its known answer on {session.provider}, "
                    f"allowed are {golden.tolerance:.0e}",
                    graph=name,
                    provider=session.provider,
                )
        return found

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Run an image model.

        Parameters
        ----------
        inputs : mapping
            Volumes by role.
        parameters : mapping
            Overrides of the card's adjustable thresholds, as text.

        Raises
        ------
        NotAssessed
            The images are not good enough to say "nothing found", or outside of the card's limits.
        ParameterInvalid
            A parameter is not adjustable or not a number.
        ModelError
            The model failed.
        """
        adapter = self._adapter
        if not hasattr(adapter, "run"):
            raise CardInvalid(f"{self.card.id} writes text; it cannot be run on images alone")
        return self._within_limits(inputs, lambda: adapter.run(inputs, parameters))

    def _within_limits(self, inputs: Mapping[str, Volume], run: Callable[[], StudyResult]) -> StudyResult:
        unknown = require_within(self.card.limits, inputs)
        result = run()
        return replace(result, evidence={**result.evidence, "limits_not_checked": list(unknown)}) if unknown else result

    def segment(
        self, inputs: Mapping[str, Volume], prompts: Sequence[BoxPrompt], parameters: Mapping[str, str]
    ) -> StudyResult:
        """Let a model of family ``promptable`` segment what ``prompts`` point at.

        Raises
        ------
        PromptMissing
            Nothing points anywhere.
        ParameterInvalid, ModelError
            As :meth:`run`.
        """
        return self._within_limits(inputs, lambda: self._prompted("segment").segment(inputs, prompts, parameters))

    def planes(
        self, volume: Volume, prompts: Sequence[BoxPrompt]
    ) -> Iterator[tuple[BoxPrompt, npt.NDArray[np.float32]]]:
        """Each box with the probabilities (rows, columns; float32 in [0, 1]) of a ``promptable`` model on its slice.

        Raises
        ------
        PromptMissing, NotAssessed, ModelError
            As :meth:`segment`.
        """
        require_within(self.card.limits, {self.card.inputs[0].role: volume})
        return self._prompted("planes").planes(volume, prompts)

    @property
    def embedded(self) -> bool:
        """Whether it came with this product."""
        return self.folder.parent == EMBEDDED

    @property
    def serves_unasked(self) -> bool:
        """Whether it may serve without anybody's approval: it came with the product, and its card asks for none."""
        return self.embedded and not self.card.needs_approval

    def require_approved(self, approved: Mapping[str, str]) -> None:
        """Refuse to serve unless these very files are approved, where that is needed.

        Parameters
        ----------
        approved : mapping
            Model id → approved digest.

        Raises
        ------
        ModelNotApproved
            The model, or one it is made of, is not approved, or its files have changed since.
        """
        if not self.serves_unasked and approved.get(self.card.id) != self.digest:
            why = "its files have changed since they were approved" if self.card.id in approved else "not approved"
            raise ModelNotApproved(f"{self.card.id} {self.card.version}: {why}")
        for name in self.needs:
            self.member(name).require_approved(approved)

    @property
    def needs(self) -> tuple[str, ...]:
        """Ids of the models it is made of, as things stand; none but for a chain."""
        return getattr(self._adapter, "needs", ())

    @property
    def members(self) -> tuple[str, ...]:
        """Ids of all models its card names, of which some may stand in for others; none but for a chain."""
        return getattr(self._adapter, "members", self.needs)

    @property
    def finders(self) -> tuple[Finder, ...]:
        """Models of which the first that may serve finds, in order; none but for a chain that begins so."""
        return getattr(self._adapter, "finders", ())

    def admitted(self, model_id: str) -> Model:
        """As :meth:`member`, but only what may serve on this node.

        Raises
        ------
        ModelNotApproved, ModelNotFound, VersionNotChosen, CardInvalid
        """
        return self._admit(model_id)

    def member(self, model_id: str) -> Model:
        """Another installed model, which a model of family ``chain`` uses.

        Raises
        ------
        ModelNotFound
            It is not installed, or this model was opened by itself.
        """
        return self._find(model_id)

    def offers(self, part: str) -> bool:
        """Whether it can be asked to ``run``, ``segment``, ``write``, ``answer`` or ``ask``."""
        adapter = self._adapter
        return bool(getattr(adapter, f"offers_{part}", hasattr(adapter, part)))

    def _prompted(self, part: str) -> PromptedAdapter:
        adapter = self._adapter
        if not hasattr(adapter, part):
            raise CardInvalid(f"{self.card.id} takes no prompts")
        return cast(PromptedAdapter, adapter)

    def write(self, result: StudyResult, inputs: Mapping[str, Volume], language: str) -> Draft:
        """Let a model of family ``generation`` write about ``result`` in ``language`` (``en`` or ``ja``).

        Raises
        ------
        NotAssessed
            The images are outside of the card's limits.
        ModelError
            The model failed.
        """
        adapter = self._adapter
        if not hasattr(adapter, "write"):
            raise CardInvalid(f"{self.card.id} writes no text")
        require_within(self.card.limits, inputs)
        return adapter.write(result, inputs, language)

    @property
    def languages(self) -> frozenset[str] | None:
        """Languages it writes; None where only trying tells."""
        return getattr(self._adapter, "languages", None)

    def answer(self, question: Question, inputs: Mapping[str, Volume], language: str) -> Draft:
        """Let a model answer a question about images in ``language`` (``en`` or ``ja``). Nothing is checked.

        Raises
        ------
        CardInvalid
            The model answers no questions.
        NotAssessed
            The images are outside of the card's limits.
        ModelError
            The model failed.
        """
        adapter = self._adapter
        if not hasattr(adapter, "answer"):
            raise CardInvalid(f"{self.card.id} answers no questions")
        require_within(self.card.limits, inputs)
        return cast(AnsweringAdapter, adapter).answer(question, inputs, language)

    def ask(self, words: Sequence[TextPart], inputs: Mapping[str, Volume], language: str) -> Draft:
        """Put a prompt of a chain to a model. Raises as :meth:`answer`."""
        adapter = self._adapter
        if not hasattr(adapter, "ask"):
            raise CardInvalid(f"{self.card.id} takes no prompts of a chain")
        require_within(self.card.limits, inputs)
        return cast(AskedAdapter, adapter).ask(words, inputs, language)

    def thresholds(self, parameters: Mapping[str, str]) -> dict[str, float]:
        """The card's thresholds with ``parameters`` applied.

        Raises
        ------
        ParameterInvalid
            A parameter is not adjustable or not a finite number.
        """
        values = dict(self.card.thresholds)
        for name, text in parameters.items():
            if name not in self.card.adjustable:
                known = ", ".join(self.card.adjustable) or "none"
                raise ParameterInvalid(f"{self.card.id} has no parameter {name}; adjustable: {known}")
            try:
                value = float(text)
            except ValueError:
                value = float("nan")
            if not abs(value) < float("inf"):
                raise ParameterInvalid(f"{self.card.id}: {name} must be a number, not {text!r}")
            values[name] = value
        return values

    @cached_property
    def _adapter(self) -> ImageAdapter | PromptedAdapter | WritingAdapter:
        module = f"models.adapters.{self.card.family.value}"
        if importlib.util.find_spec(module) is None:
            raise CardInvalid(f"{self.card.id}: this release has no adapter for family {self.card.family.value}")
        return importlib.import_module(module).build(self)


def _alone(model_id: str) -> Model:
    raise ModelNotFound(f"{model_id} is looked for among the installed models, and this model was opened by itself")
