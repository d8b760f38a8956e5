"""A part within the parts of a module, by the names its released parameters have."""

from __future__ import annotations

from typing import Any

from torch import nn


def inner(module: nn.Module, *names: str) -> Any:
    """What stands in ``module`` below ``names``: in a dictionary of modules by key, elsewhere by attribute."""
    found: Any = module
    for name in names:
        found = found[name] if isinstance(found, nn.ModuleDict) else getattr(found, name)
    return found
