"""English sentences of the deterministic report."""

from __future__ import annotations

from typing import ClassVar

from models.report_facts import Lesion, ReportFacts, format_adc, format_ml, format_range, sentence
from models.results import Finding, Laterality, ModelReference, RefusalReason

_WHERE = {
    Laterality.LEFT: " on the left side of the brain",
    Laterality.RIGHT: " on the right side of the brain",
    Laterality.BILATERAL: " on both sides of the brain",
    Laterality.MIDLINE: " in the midline of the brain",
    Laterality.UNKNOWN: "",
}
_ALSO = {Laterality.MIDLINE: " and in the midline", Laterality.UNKNOWN: " (side of some not determined)"}
_SIDE = {
    Laterality.LEFT: "left",
    Laterality.RIGHT: "right",
    Laterality.BILATERAL: "both sides",
    Laterality.MIDLINE: "midline",
    Laterality.UNKNOWN: "side not determined",
}


def _where(facts: ReportFacts) -> str:
    first, *also = facts.sides
    return _WHERE[first] + "".join(_ALSO[side] for side in also)


THRESHOLDS = {
    "score_margin": "margin of every condition, ADC ratio among them",
    "edge_fraction": "contrast at the edge",
    "threshold": "probability",
}
"""Names of thresholds that are swept; what is not here is named as the card does."""


def volume(volume_ml: float, range_ml: tuple[float, float] | None) -> str:
    """A volume with its unit and, in brackets, its range over the decision thresholds."""
    spread = "" if range_ml is None else format_range(range_ml, " to ")
    return f"{format_ml(volume_ml)} mL" + (f" ({spread} mL over decision thresholds)" if spread else "")


class English:
    """Wording for infarct on diffusion MR. Every method returns whole sentences, or an empty string."""

    language = "en"
    separator = " "
    always_stated: ClassVar[tuple[str, ...]] = ("negative_is_not_exclusion", "subacute_missed")
    stated_when_found: ClassVar[tuple[str, ...]] = ("not_specific",)
    limitations: ClassVar[dict[str, str]] = {
        "negative_is_not_exclusion": '"No restricted diffusion found" is not "no infarct".',
        "baseline_not_validated": "This is a baseline method. It has not been clinically validated.",
        "not_validated": "This model has not been clinically validated here.",
        "subacute_missed": "Infarcts older than about 10 days may be missed, because ADC pseudonormalises.",
        "subacute_mode": (
            "Subacute mode: areas that are bright on DWI alone, without a low ADC, are reported as well. From these images "
            "T2 shine-through (old infarct, gliosis, oedema, demyelination) cannot be told from a subacute infarct. Faint, "
            "superficial and symmetric ones may be missed. There are no ranges of volumes in this mode."
        ),
        "not_specific": (
            "Restricted diffusion is not specific: seizure, hypoglycaemia, abscess, demyelination and cell-dense tumour "
            "can look the same."
        ),
        "incomplete_coverage": "The images do not cover the whole brain. What lies outside was not assessed.",
        "low_signal_to_noise": "The signal-to-noise ratio is low. Small infarcts may be missed.",
        "other_version_before": (
            "The earlier result was made by another version of the model, or with other settings: what looks like a change may "
            "come from that."
        ),
        "order_mismatch": (
            "The order and the images do not agree. Nothing of the order stands here; check the identity of this study."
        ),
        "images_incomplete": "Not every image that was announced had come. What is missing was not assessed.",
        "identity_corrected": (
            "The images carry an earlier identity of this patient. This result carries the one that holds now."
        ),
        "after_signing": "LATE: the report of this study had been signed before this result was there.",
        "finder_fell_back": (
            "The model that is preferred at this site could not be used on this study. Another one stands in for it; the "
            "model's parameters name both."
        ),
        "flair_not_registered": (
            "FLAIR could not be brought into agreement with the diffusion images: the FLAIR signal ratio was not measured."
        ),
        "flair_no_reference": (
            "Too little healthy tissue lies opposite, or FLAIR does not show it: the FLAIR signal ratio was not measured."
        ),
        "flair_ratio_baseline": (
            "The FLAIR signal ratio (mean in the region over mean of the mirrored tissue) is a baseline figure. It has not been "
            "validated, and nothing about the time of onset follows from it."
        ),
        "organ_cut_off": "The brain is cut off at the edge of the images. What lies outside was not assessed.",
        "reference_doubtful": (
            "The comparison with normal tissue is doubtful. Volumes may be too small and further infarcts may be missed."
        ),
    }

    def found(self, facts: ReportFacts) -> str:
        """Number, total and side."""
        areas = "area" if facts.count == 1 else "areas"
        return (
            f"{facts.count} {areas} of restricted diffusion (high DWI signal with low ADC)"
            f"{_where(facts)}, total volume {volume(facts.total_ml, facts.total_range_ml)}."
        )

    def lesion(self, lesion: Lesion) -> str:
        """One line for one lesion."""
        adc = "" if lesion.adc_um2_s is None else f", mean ADC {format_adc(lesion.adc_um2_s)} × 10⁻⁶ mm²/s"
        kind = ", bright on DWI without a low ADC" if lesion.dwi_only else ""
        return f"Lesion {lesion.number}: {_SIDE[lesion.side]}, {volume(lesion.volume_ml, lesion.range_ml)}{adc}{kind}."

    def finding(self, finding: Finding) -> str:
        """Nothing: the regions say it."""
        return ""

    def remaining(self, count: int, volume_ml: float) -> str:
        """The lesions that are not listed one by one."""
        lesions = "lesion" if count == 1 else "lesions"
        return f"The remaining {count} {lesions} together: {format_ml(volume_ml)} mL."

    def found_impression(self, facts: ReportFacts) -> str:
        """Number, total, side and the largest when there are several."""
        lesions = "1 lesion" if facts.count == 1 else f"{facts.count} lesions"
        largest = f", the largest {format_ml(facts.lesions[0].volume_ml)} mL" if facts.count > 1 else ""
        return (
            f"Restricted diffusion suggestive of acute infarct{_where(facts)}: {lesions}, "
            f"total volume {volume(facts.total_ml, facts.total_range_ml)}{largest}."
        )

    def bright(self, facts: ReportFacts) -> str:
        """What the subacute mode has found: number, total and side."""
        areas = "area" if facts.count == 1 else "areas"
        return (
            f"Subacute mode: {facts.count} {areas} of high DWI signal without a low ADC{_where(facts)}, total volume "
            f"{volume(facts.total_ml, None)}."
        )

    def nothing_bright(self) -> str:
        """That the subacute mode has found nothing."""
        return "Subacute mode: no area of high DWI signal without a low ADC was found."

    def bright_impression(self, facts: ReportFacts) -> str:
        """What the subacute mode has found, and what it may be."""
        areas = "1 area" if facts.count == 1 else f"{facts.count} areas"
        return (
            f"Subacute mode: {areas} of high DWI signal without a low ADC{_where(facts)}, total volume "
            f"{volume(facts.total_ml, None)}: subacute infarct or T2 shine-through, which these images cannot tell apart."
        )

    def nothing_found(self) -> str:
        """Findings when nothing was marked."""
        return "No area of restricted diffusion that meets the reporting criteria was found on DWI and ADC."

    def nothing_found_impression(self, facts: ReportFacts) -> str:
        """Absence with its detection limit."""
        limit = (
            "" if facts.detection_limit_ml is None else f" (detection limit {format_ml(facts.detection_limit_ml)} mL)"
        )
        return (
            f"No restricted diffusion suggestive of acute infarct was found{limit}. "
            "This does not exclude an acute infarct."
        )

    def not_assessed(self, refusal: RefusalReason | None) -> str:
        """Why the images were not analysed, and what to do."""
        if refusal is None:
            return "Not assessed: the AI did not analyse this study."
        remedy = f" What to do: {refusal.remedy}" if refusal.remedy else ""
        return f"Not assessed: the AI did not analyse this study. Reason ({refusal.code}): {sentence(refusal.message)}{remedy}"

    def not_assessed_impression(self) -> str:
        """That nothing is stated."""
        return "Not assessed by the AI. Nothing is stated about the presence or absence of an infarct."

    def detection_limit(self, volume_ml: float) -> str:
        """The volume from which infarcts stand out."""
        return (
            "Detection limit (volume usually detected at this image quality, estimated on "
            f"phantoms): {format_ml(volume_ml)} mL."
        )

    def reporting_threshold(self, volume_ml: float) -> str:
        """The one stated reporting threshold."""
        return f"Reporting threshold: {format_ml(volume_ml)} mL (smaller volumes are not reported)."

    def flair_ratio(self, ratio: float) -> str:
        """The signal ratio, without anything that might follow from it."""
        return f"FLAIR signal ratio of the restricted diffusion to the mirrored tissue: {ratio:.2f} (baseline figure)."

    def swept(self, facts: ReportFacts) -> str:
        """What the ranges of volumes mean; nothing where there are none."""
        if not facts.swept:
            return ""
        moved = "; ".join(f"{THRESHOLDS.get(name, name)} {strict:g} to {lax:g}" for name, strict, lax in facts.swept)
        return (
            f"Ranges in brackets: the volume as the decision thresholds go from strict to lax ({moved}). "
            "They are no confidence intervals."
        )

    def ai_draft(self) -> str:
        """That no physician has seen this text."""
        return "AI draft, not reviewed by a physician."

    def model(self, model: ModelReference) -> str:
        """Which model, exactly."""
        return f"Model: {model.name}, version {model.version}, weights digest (SHA-256) {model.digest[:12]}."

    def contradicted(self, code: str, problems: tuple[str, ...]) -> str:
        """That generated text was thrown away."""
        return f"{code}: generated text was discarded because it contradicts the measurements ({'; '.join(problems)})."

    def flagged(self, code: str, problems: tuple[str, ...]) -> str:
        """That the generated text that follows is doubtful."""
        return f"{code}: CAUTION, the generated text contradicts the measurements ({'; '.join(problems)}). The measurements hold."

    def generator_failed(self, code: str) -> str:
        """That no generated text could be had."""
        return f"{code}: the report model failed; this text was composed from the measurements."

    def generated_by(self, model: ModelReference) -> str:
        """Who wrote the impression."""
        return f"Impression written by: {model.name}, version {model.version}, weights digest (SHA-256) {model.digest[:12]}."

    def marked(self, labels: tuple[str, ...]) -> str:
        """What boxes and points were drawn around."""
        return f"Marked on the images: {', '.join(labels)}." if labels else ""

    def outlined(self, count: int) -> str:
        """Regions on a projection, which have no volume."""
        structures = "structure" if count == 1 else "structures"
        return f"{count} {structures} outlined on the radiograph; outlines may lie over each other."

    def model_reading(self) -> str:
        """Heads text a model wrote from the images."""
        return "Reading of a language model (AI draft, not reviewed; nothing in it was measured):"

    def reading_impression(self) -> str:
        """Stands for an impression where only a model has read the images."""
        return (
            "The findings hold the unreviewed reading of a language model. Side, number, size and presence in it may be "
            "wrong; no measurement confirms them."
        )

    def not_measured(self, problems: tuple[str, ...]) -> str:
        """What the check found in text behind which there is no measurement."""
        return f"Check of the model's text, nothing of this was measured: {'; '.join(problems)}."

    def not_in_language(self, written: str) -> str:
        """That the model writes other languages only."""
        return f"The model wrote no text in this language (it writes: {written or 'none'})."

    def read_by(self, model: ModelReference) -> str:
        """Who wrote the findings."""
        return f"Text written by: {model.name}, version {model.version}, weights digest (SHA-256) {model.digest[:12]}."
