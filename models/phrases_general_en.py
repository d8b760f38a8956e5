"""English sentences for results of any model: regions and findings as they are, without a diagnosis of ours."""

from __future__ import annotations

from typing import ClassVar

from models.phrases_en import English, volume
from models.report_facts import ReportFacts
from models.results import Finding


class GeneralEnglish(English):
    """Wording for whatever is not infarct on diffusion MR. Every method returns whole sentences, or an empty string."""

    always_stated: ClassVar[tuple[str, ...]] = ("nothing_marked_is_not_normal",)
    stated_when_found: ClassVar[tuple[str, ...]] = ()
    limitations: ClassVar[dict[str, str]] = {
        **English.limitations,
        "nothing_marked_is_not_normal": "What is not marked or listed is not thereby normal.",
        "earlier_image_seen": "The model saw this image beside an earlier one of the same patient.",
        "prompted": "The regions are what somebody or something pointed at; nothing else was looked for.",
        "scores_are_no_diagnosis": "Scores are not probabilities of disease.",
        "codes_of_patients": "Scores are of codes that patients with such images were given, not of what the images show.",
        "later_diagnoses": "Scores are of diagnoses in the years after an image; they describe nothing on it.",
        "language_model": "Language models state what is not there and miss what is; every sentence has to be checked.",
        "pointing_cut_off": "The model was cut off while it pointed: what it did not mark was not assessed.",
        "always_a_box": "The model marks one place for each finding, whether the finding is there or not.",
        "boxes_without_probability": "Boxes come from a language model without a probability.",
    }

    def found(self, facts: ReportFacts) -> str:
        """Number and total of the regions; nothing where there are only findings."""
        if not facts.lesions:
            return ""
        regions = "region" if facts.count == 1 else "regions"
        return f"{facts.count} {regions} marked, total volume {volume(facts.total_ml, facts.total_range_ml)}."

    def finding(self, finding: Finding) -> str:
        """One line for one finding."""
        verdict = "above" if finding.present else "below"
        point = (
            "" if finding.operating_point is None else f", {verdict} the operating point {finding.operating_point:.2f}"
        )
        return f"{finding.concept.meaning}: score {finding.probability:.2f}{point}."

    def found_impression(self, facts: ReportFacts) -> str:
        """What was marked, and which findings count as present."""
        marked = f"{self.found(facts)} " if facts.lesions else ""
        present = ", ".join(each.concept.meaning for each in facts.findings if each.present)
        return f"{marked}{f'AI flags: {present}.' if present else ''}".strip()

    def nothing_found(self) -> str:
        """Findings when nothing was marked."""
        return "Nothing was marked, and no finding reached its operating point."

    def nothing_found_impression(self, facts: ReportFacts) -> str:
        """That nothing was flagged, and what that does not mean."""
        return "The AI flagged nothing. This does not exclude disease."

    def not_assessed_impression(self) -> str:
        """That nothing is stated."""
        return "Not assessed by the AI. Nothing is stated about these images."
