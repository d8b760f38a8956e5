"""Section about similar studies."""

from __future__ import annotations

from pydantic import Field

from node.settings.section import Section


class SimilarSection(Section):
    """The index of similar studies of this hospital; nothing is kept unless it is enabled."""

    enabled: bool = False
    keep_days: float = Field(default=365.0, gt=0, le=36500)
    limit: int = Field(default=5, ge=1, le=100)
    minimum_cosine: float = Field(default=0.5, ge=-1, le=1)
