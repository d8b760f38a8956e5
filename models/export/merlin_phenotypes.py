"""Merlin's phenotypes as a system of its own; see :mod:`models.export.merlin_heads`."""

from models.export.merlin_heads import convert_phenotypes as convert

__all__ = ["convert"]
