"""Which received objects are requests of readers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from dicom_sr.marks import KINDS
from node.settings import PromptSection


def asked_by(row: Row[Any], prompts: Sequence[PromptSection]) -> PromptSection | None:
    """The first prompt for which an instance is a request."""
    for prompt in prompts:
        kinds = [uid for kind in prompt.objects for uid in KINDS[kind]]
        if (
            row.sop_class_uid in kinds
            and (not prompt.calling_ae_titles or row.calling_ae_title in prompt.calling_ae_titles)
            and (not prompt.called_ae_titles or row.called_ae_title in prompt.called_ae_titles)
        ):
            return prompt
    return None
