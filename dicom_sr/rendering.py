"""What objects are rendered with, and what comes out: shared by every kind of object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pydicom.dataset import Dataset

from dicom_sr.encoding import encode
from dicom_sr.identity import NodeIdentity
from models.results import ModelReference


@dataclass(frozen=True, slots=True)
class RenderContext:
    """For whom and as what a set of objects is made.

    Attributes
    ----------
    identity : NodeIdentity
        The node as a device.
    key : str
        Work key (:func:`dicom_sr.uids.work_key`); every UID of the set follows from it.
    profile_name : str
        Destination profile the set is for.
    objects : tuple of str
        Kinds wanted: ``seg``, ``measurements``, ``text``, ``status``. A kind that was not asked for is left out, except
        that a study is never left without an answer.
    series_number_base : int
        Series Number of the first series; the others count up from it.
    run : int
        Number of the run, from 1.
    report_model : ModelReference or None
        Model that was asked to write text; named as a contributor only where it wrote it.
    """

    identity: NodeIdentity
    key: str
    profile_name: str
    objects: tuple[str, ...]
    series_number_base: int
    run: int
    report_model: ModelReference | None


@dataclass(frozen=True)
class RenderedObject:
    """One object of a set: its role in it, and the data set.

    The data set must not be changed once :attr:`encoded` was read: what is checked is what is written.
    """

    role: str
    dataset: Dataset

    @cached_property
    def encoded(self) -> bytes:
        """The whole Part 10 file."""
        return encode(self.dataset)
