"""Every system the catalogue knows, one file each, and which of them have a converter. Importing this does not import torch.

A system is described by ``models/export/descriptions/NAME.toml``: what it is, whose licence it has, where its layout was
read, and what proves that its conversion works. Adding one adds a file and changes none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from models.errors import ModelNotFound
from models.tables import tables_in

if TYPE_CHECKING:
    from models.export.imported import Imported

DESCRIPTIONS = Path(__file__).resolve().parent / "descriptions"

Status = Literal[
    "runs",
    "needs weights",
    "needs members",
    "needs site training",
    "no converter yet",
    "no public weights",
    "remote",
    "harness",
    "out of scope",
]


class System(BaseModel):
    """What is known about one system.

    Attributes
    ----------
    title, task : str
        Its published name; what it takes and gives.
    family : str
        Family of adapters that runs it; empty where there is nothing to run.
    licence_code, licence_weights : str
    status : str
        ``runs`` (comes with the product), ``needs weights`` (a converter is here, the checkpoint is the site's to get),
        ``needs members`` (a recipe is here, the models it puts together are the site's to install), ``needs site training``,
        ``no converter yet``, ``no public weights``, ``remote`` (a service answers), ``harness`` (benchmark or data),
        ``out of scope``.
    source : str
        ``repository@commit`` its facts were read from.
    module : str
        Module with ``convert(checkpoint, folder)``; empty where there is none.
    recipe : str
        Recipe of :mod:`models.chains.recipe` that puts it together from models of the site; empty where there is none.
    takes : str
        What the converter takes.
    keys : str
        Number of keys of the released checkpoint.
    parity : str
        Largest difference between torch and ONNX Runtime, relative, on a small checkpoint, and the sizes compared.
    proof : str
        The test, or folder of tests, that shows it.
    graphs : int
        How many graphs its converter usually writes; known beforehand, so that an import can say how far it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    task: str
    family: Literal["", "feed_forward", "promptable", "image_text", "generation", "remote", "chain", "external"] = ""
    licence_code: str
    licence_weights: str
    status: Status
    source: str = ""
    module: str = ""
    recipe: str = ""
    takes: str = ""
    keys: str = ""
    parity: str = ""
    proof: str = ""
    graphs: int = 1
    note: str = ""

    @model_validator(mode="after")
    def _honest(self) -> System:
        if self.module and not (self.keys and self.parity and self.proof and self.source):
            raise ValueError("a system with a converter states keys, parity, proof and source")
        if (self.status == "needs weights" and not self.module) or (self.status == "needs members" and not self.recipe):
            raise ValueError(
                "only a system with a converter needs nothing but weights, one with a recipe nothing but members"
            )
        return self

    def command(self, name: str) -> str:
        """What is typed to get or run it; empty where nothing can be."""
        if self.module:
            return f"ainode models import {name} CHECKPOINT --out FOLDER"
        if self.recipe:
            return f"ainode models chain {self.recipe} --member PLACE=MODEL --out FOLDER"
        return f"ainode process PATH --out DIR --model {name}" if self.status == "runs" else ""


@cache
def described() -> dict[str, System]:
    """Every system by name, in order.

    Raises
    ------
    CardInvalid
        A description is not valid.
    """
    return tables_in(DESCRIPTIONS, System)


class _Converters(Mapping[str, str]):
    """System → module with ``convert(checkpoint, folder)``, read when first asked."""

    def __getitem__(self, system: str) -> str:
        module = described()[system].module
        if not module:
            raise KeyError(system)
        return module

    def __iter__(self) -> Iterator[str]:
        return (name for name, system in described().items() if system.module)

    def __len__(self) -> int:
        return sum(1 for _ in self)


WITH_VARIANTS = frozenset({"onnx-folder"})
"""Systems whose publishers lay smaller weights beside the float ones; their converter takes ``variant``."""

SYSTEMS: Mapping[str, str] = _Converters()
"""System → module with ``convert(checkpoint, folder)``."""


def converter_of(system: str) -> Callable[..., Imported]:
    """The converter of a system.

    Raises
    ------
    ModelNotFound
        There is none.
    """
    if system not in SYSTEMS:
        raise ModelNotFound(f"no converter for {system}; there are {', '.join(sorted(SYSTEMS))}")
    return importlib.import_module(SYSTEMS[system]).convert
