"""The model card: everything a model states about itself, read from ``model.toml`` and checked strictly."""

from __future__ import annotations

import hashlib
import re
import tomllib
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.errors import CardInvalid
from models.limits import Limits
from models.results import CodedTerm, Laterality
from models.runtime_settings import RuntimeSettings, identity_of
from models.sweep import Sweep

CARD_FILE = "model.toml"
EMBEDDED = Path(__file__).resolve().parent / "catalogue"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Scalar = bool | int | float | str
Options = TypeVar("Options", bound=BaseModel)


class Family(StrEnum):
    """Which adapter runs the model; the name is that of its module in ``models.adapters``."""

    FEED_FORWARD = "feed_forward"
    PROMPTABLE = "promptable"
    IMAGE_TEXT = "image_text"
    GENERATION = "generation"
    REMOTE = "remote"
    CHAIN = "chain"
    EXTERNAL = "external"


_WITHOUT_GRAPHS = (Family.CHAIN, Family.REMOTE, Family.EXTERNAL)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CardInput(_Strict):
    """One volume the model takes.

    Attributes
    ----------
    role : str
        Name under which the volume is handed to the model.
    kind : str
        ``"dwi"`` (diffusion-weighted), ``"adc"`` (in 10⁻⁶ mm²/s), ``"image"`` (any volume), ``"projection"`` (a
        radiograph) or ``"photograph"`` (one image in colour, as of the fundus or the skin).
    modality : str
        DICOM modality, e.g. ``"MR"``; ``"CR|DX"`` where either will do.
    required : bool
        Whether the model refuses to run without it.
    same_grid_as : str or None
        Role whose voxel grid this volume must share.
    minimum_b_value, maximum_b_value : float or None
        Limits in s/mm².
    views : tuple of str
        Values of View Position (0018,5101) a projection may have; empty: any.
    series_description : str
        Regular expression that Series Description (0008,103E) of an ``"image"`` must hold, whatever the case; empty: any.
        What tells several series of one modality apart is named by each site in its own words.
    earlier : bool
        Whether it is taken from an earlier study of the patient, and never from this one. Such an input is not required.
    """

    role: str
    kind: Literal["dwi", "adc", "image", "projection", "photograph"]
    modality: str
    required: bool = True
    same_grid_as: str | None = None
    minimum_b_value: float | None = None
    maximum_b_value: float | None = None
    views: tuple[str, ...] = ()
    series_description: str = ""

    @field_validator("series_description")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return pattern

    earlier: bool = False

    @model_validator(mode="after")
    def _never_certain(self) -> CardInput:
        if self.earlier and (self.required or self.kind != "projection"):
            raise ValueError("earlier: an input from an earlier study is a projection, and not required")
        return self


class PinnedFile(_Strict):
    """A file beside the card, pinned by the SHA-256 of its bytes."""

    file: str
    sha256: Sha256


class Graph(PinnedFile):
    """An ONNX graph: pinned file, names of its inputs and outputs in graph order, and its opset."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int = Field(ge=11)


class Golden(PinnedFile):
    """Known answer of one graph (:mod:`models.golden`), and how far the graph may be from it, relative."""

    tolerance: float = Field(default=1e-3, gt=0, lt=1)


class Step(_Strict):
    """A named step of pre- or postprocessing, with its parameters."""

    step: str
    parameters: dict[str, Scalar | list[Scalar]] = {}


class Label(_Strict):
    """What one value of the label mask means, in coded terms; ``side`` where the value itself is of one side."""

    value: int = Field(ge=1, le=255)
    name: str
    finding: CodedTerm
    category: CodedTerm
    site: CodedTerm
    side: Laterality = Laterality.UNKNOWN


class Card(_Strict):
    """A model card.

    Attributes
    ----------
    id, version, name, manufacturer : str
        Identity; ``id`` is what rules and the command line say.
    title : str
        What the model looks for, English, as in :attr:`models.results.StudyResult.title`.
    family : Family
        Which adapter runs it.
    finding, site : CodedTerm
        The concept looked for, and where; stated also when nothing was found or nothing ran.
    clinical : bool
        Whether anybody has approved clinical use. False unless a site says otherwise.
    needs_approval : bool
        A person has to approve it before it serves, although it came with the product. Others need that anyhow.
    inputs, graphs, files, preprocessing, postprocessing, labels
        What it takes and how it is run. ``files`` are pinned files other than graphs (vocabularies …).
    golden : dict
        Known answers, by graph.
    thresholds : dict
        Named numbers the steps and graphs use.
    adjustable : tuple of str
        Thresholds a rule may override.
    sweep : Sweep or None
        Thresholds that are moved to see how far the volumes depend on them; see :mod:`models.sweep`.
    suitability : dict
        Limits of the suitability check, see :mod:`models.suitability`.
    limits : Limits
        Age, field strength, contrast agent, spacing and coverage it was made for; see :mod:`models.limits`.
    limitations : tuple of str
        Keys of fixed sentences every result carries.
    runtime : RuntimeSettings
        Threads, memory, time and devices; see :mod:`models.runtime_settings`.
    options : dict
        Settings only the family's adapter understands.
    provenance, evidence : dict
        Where it comes from; published and own figures, with their sources.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,63}$")
    version: str
    title: str
    name: str
    manufacturer: str
    family: Family
    licence: str
    intended_use: str
    caveats: tuple[str, ...] = ()
    clinical: bool = False
    needs_approval: bool = False
    finding: CodedTerm
    site: CodedTerm
    inputs: list[CardInput]
    graphs: dict[str, Graph] = {}
    files: dict[str, PinnedFile] = {}
    golden: dict[str, Golden] = {}
    preprocessing: tuple[Step, ...] = ()
    postprocessing: tuple[Step, ...] = ()
    labels: tuple[Label, ...] = ()
    thresholds: dict[str, float] = {}
    adjustable: tuple[str, ...] = ()
    sweep: Sweep | None = None
    suitability: dict[str, float] = {}
    limits: Limits = Limits()
    limitations: tuple[str, ...] = ()
    runtime: RuntimeSettings = RuntimeSettings()
    options: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    evidence: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        roles = [each.role for each in self.inputs]
        if len(set(roles)) != len(roles):
            raise ValueError("inputs: a role is named twice")
        for each in self.inputs:
            if each.same_grid_as is not None and each.same_grid_as not in roles:
                raise ValueError(f"inputs: {each.role} shares the grid of {each.same_grid_as}, which is no input")
        if unknown := set(self.adjustable) - set(self.thresholds):
            raise ValueError(f"adjustable: no such threshold: {', '.join(sorted(unknown))}")
        self._require_sweep_fits()
        if unknown := set(self.limits.contrast) - set(roles):
            raise ValueError(f"limits.contrast: no such input: {', '.join(sorted(unknown))}")
        if self.family is Family.FEED_FORWARD and "main" not in self.graphs:
            raise ValueError("graphs: a feed_forward model needs a graph named main")
        if self.family not in _WITHOUT_GRAPHS and not self.graphs:
            raise ValueError(f"graphs: a model of family {self.family.value} needs some")
        values = [each.value for each in self.labels]
        if values != list(range(1, len(values) + 1)):
            raise ValueError("labels: values must be 1, 2, 3 … in order")
        if unknown := set(self.golden) - set(self.graphs):
            raise ValueError(f"golden: no such graph: {', '.join(sorted(unknown))}")
        for pinned in self.pinned:
            if not lies_inside(pinned.file):
                raise ValueError(f"{pinned.file!r} must lie in the model's own folder")
        return self

    def _require_sweep_fits(self) -> None:
        if self.sweep is None:
            return
        if self.family is not Family.FEED_FORWARD:
            raise ValueError(f"sweep: a model of family {self.family.value} has no thresholds to move")
        for name, swept in self.sweep.thresholds.items():
            point = self.thresholds.get(name)
            if point is not None and not swept.holds(point):
                raise ValueError(f"sweep.thresholds.{name}: {point:g} does not lie between strict and lax")

    @property
    def pinned(self) -> tuple[PinnedFile, ...]:
        """Every file whose digest the card states."""
        return (*self.graphs.values(), *self.files.values(), *self.golden.values())

    def options_of(self, kind: type[Options]) -> Options:
        """The table ``[options]`` as a kind of model wants it.

        Raises
        ------
        CardInvalid
            It is not like that; the message names each key.
        """
        try:
            return kind.model_validate(self.options)
        except ValidationError as error:
            faults = [f"options.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise CardInvalid(f"{self.id}: {'; '.join(faults)}", keys=faults) from error

    @classmethod
    def load(cls, folder: Path) -> Card:
        """Read ``model.toml`` in ``folder``.

        Raises
        ------
        CardInvalid
            The file is missing, is not TOML, or a key is unknown, missing or out of range; the message names file and
            key.
        """
        path = folder / CARD_FILE
        try:
            text = path.read_text(encoding="utf-8")
            card = cls.model_validate(tomllib.loads(text))
            identity_of(text.encode())
            return card
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise CardInvalid(f"{folder.name}/{CARD_FILE}: {error}") from error
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors()]
            raise CardInvalid(f"{folder.name}/{CARD_FILE}: {'; '.join(faults)}", keys=faults) from error


def lies_inside(name: str) -> bool:
    """Whether the path of a file, with ``/``, stays in the folder it starts from, on every system."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or not path.parts or ".." in path.parts or re.search(r"[\\:]", name))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def model_digest(folder: Path, card: Card) -> str:
    """SHA-256 (hex) over the card's bytes and the pinned digests of graphs and files: the identity of a model.

    Of ``[runtime]`` only what can change a result, threads and providers, is part of it; see
    :func:`models.runtime_settings.identity_of`.
    """
    card_digest = hashlib.sha256(identity_of((folder / CARD_FILE).read_bytes()))
    total = hashlib.sha256(card_digest.digest())
    for kind, pinned in (("graph", card.graphs), ("file", card.files)):
        for name in sorted(pinned):
            total.update(f"\0{kind}\0{name}\0".encode() + bytes.fromhex(pinned[name].sha256))
    return total.hexdigest()
