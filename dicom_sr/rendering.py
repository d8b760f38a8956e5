"""What objects are rendered with, and what comes out: shared by every kind of object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_sr.encoding import encode
from dicom_sr.identity import NodeIdentity
from dicom_sr.profile import OBJECT_KINDS, ObjectKind, Profile
from dicom_sr.requested import RequestedProcedure
from models.results import ModelReference

REJECTION, SUPERSEDED = "key_objects-rejection", "status-superseded"
COMBINED = "status-combined"
"""Role of the one status for several analyses of a study."""
NOTES = frozenset({REJECTION, SUPERSEDED})
"""Roles of what speaks about an earlier set instead of about the study."""


@dataclass(frozen=True, slots=True)
class EarlierObject:
    """An object of the same study that a new set takes the place of."""

    role: str
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str


@dataclass(frozen=True, slots=True)
class PriorObjects:
    """The earlier study's instances that a comparison refers to.

    Attributes
    ----------
    segmentation : Dataset
        Header of the segmentation object, with its segments and where each of its frames came from.
    sources : tuple of Dataset
        Study, series, instance and class of every image its frames name.
    """

    segmentation: Dataset
    sources: tuple[Dataset, ...]


@dataclass(frozen=True, slots=True)
class RenderContext:
    """For whom and as what a set of objects is made.

    Attributes
    ----------
    identity : NodeIdentity
        The node as a device.
    key : str
        Work key (:func:`dicom_sr.uids.work_key`); every UID of the set follows from it.
    profile : Profile
        What the destination takes and wants.
    run : int
        Number of the run, from 1.
    report_model : ModelReference or None
        Model that was asked to write text; named as a contributor only where it wrote it.
    earlier : tuple of EarlierObject
        The objects whose place this set takes.
    prior : PriorObjects or None
        Instances of the earlier study that a comparison refers to.
    procedures : tuple of RequestedProcedure
        The order, where one is known that agrees with the images.
    """

    identity: NodeIdentity
    key: str
    profile: Profile
    run: int
    report_model: ModelReference | None
    earlier: tuple[EarlierObject, ...] = ()
    prior: PriorObjects | None = None
    procedures: tuple[RequestedProcedure, ...] = ()


@dataclass(frozen=True)
class RenderedObject:
    """One object of a set: its role in it (its kind, and where there are several a dash and which), and the data set with
    the transfer syntax of its pixels.

    The data set must not be changed once :attr:`encoded` was read: what is checked is what is written.
    """

    role: str
    dataset: Dataset
    transfer_syntax: str = ExplicitVRLittleEndian

    @cached_property
    def encoded(self) -> bytes:
        """The whole Part 10 file."""
        return encode(self.dataset, self.transfer_syntax)


def kind_of(role: str) -> ObjectKind:
    """Kind of the object with that role: ``text`` for ``text-ja``.

    Raises
    ------
    ValueError
        No kind has that name.
    """
    name = role.partition("-")[0]
    for kind in OBJECT_KINDS:
        if kind == name:
            return kind
    raise ValueError(f"{role} is not a role of any kind of object")
