"""Merlin's five-year risks as a system of its own; see :mod:`models.export.merlin_heads`."""

from models.export.merlin_heads import convert_risks as convert

__all__ = ["convert"]
