"""How ratios of signals are named, for those who only read or tell them."""

from __future__ import annotations

from models.results import CodedTerm

RATIO = CodedTerm("118586006", "SCT", "Ratio")
"""No standard code says of what; a private one would be read by nobody."""
FLAIR_RATIO = (
    "FLAIR signal intensity: mean in the region over mean of the mirrored tissue; baseline, no validated cut-off"
)
"""Remark of the quantity, by which it is known."""
RELATIVE_DWI = "DWI signal: mean in the region (geometric) over that of the patient's own normal tissue around it"
"""Remark of the quantity, by which it is known."""
RATIO_UNIT = CodedTerm("1", "UCUM", "no units")
