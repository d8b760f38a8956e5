"""The section about how long received images stay here."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from node.settings.section import Name, Section


class RetentionSection(Section):
    """When received images go. Results have ``delivery.keep_days``."""

    images_days: float = Field(default=0.0, ge=0, le=36500)
    archive: Name | None = None
    unlisted: Literal["keep", "remove"] = "keep"

    @model_validator(mode="after")
    def _removes(self) -> Self:
        if self.images_days and self.archive is None and self.unlisted == "keep":
            raise ValueError(
                'images_days: nothing would ever go; name the archive that is asked first, or set unlisted = "remove"'
            )
        return self
