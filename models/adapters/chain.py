"""Family ``chain``: a model made of installed models.

Recipe ``graph`` runs steps that the card declares (:mod:`models.chains.graph_chain`), recipe ``refine`` has what one model
finds drawn again by another (:mod:`models.chains.refining`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.chains.graph_chain import GraphChain
from models.chains.refining import RefineChain

if TYPE_CHECKING:
    from models.model import Model


def build(model: Model) -> RefineChain | GraphChain:
    """Adapter of ``model``; raises :class:`CardInvalid` where its ``options`` are none."""
    return GraphChain(model) if model.card.options.get("recipe") == "graph" else RefineChain(model)
