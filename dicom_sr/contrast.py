"""Whether a series was made with contrast agent, as far as its header says.

The Contrast/Bolus Modules (PS3.3 C.7.6.4, C.7.6.4b) are required only where an agent was used, and many scanners leave them out
even then: what is absent or empty says nothing. An agent that is named, or given as none in so many words, does.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

WITH, WITHOUT = "with", "without"

_NONE = re.compile(
    r"(?:no(?:ne|t? ?(?:contrast|given|used|applied))?|non[- ]?contrast|without(?: contrast)?|w/?o|nil|native|plain|0|なし|無し)"
)
"""Words with which people say in (0018,0010) that there was none."""


def contrast_of(header: Dataset) -> str | None:
    """``"with"``, ``"without"``, or None where the header does not say.

    Parameters
    ----------
    header : Dataset
        Of an image, classic (Contrast/Bolus Agent, its sequence, volume) or enhanced (the sequence alone).
    """
    words = str(header.get("ContrastBolusAgent", "") or "").strip().lower()
    sequence = header.get("ContrastBolusAgentSequence") or []
    if words and _NONE.fullmatch(words):
        # The codes of an agent contradict that there was none: then nobody knows.
        return None if len(sequence) else WITHOUT
    return WITH if words or len(sequence) else None
