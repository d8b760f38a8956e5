"""Names of conditions as texts write them, English and Japanese."""

from __future__ import annotations

from models.phrases_general_ja import TERMS

_ALSO = {
    "Cardiomegaly": ("enlarged heart", "enlarged cardiac silhouette", "心拡大", "心陰影拡大"),
    "Pleural effusion": ("effusion", "胸水"),
    "Pulmonary edema": ("pulmonary oedema", "edema", "oedema", "肺水腫", "肺うっ血"),
    "Pneumothorax": ("気胸",),
    "Lung Opacity": ("opacity", "opacities", "陰影"),
}


def names_of(meaning: str) -> tuple[str, ...]:
    """Every name of a condition that is known by its English one, which comes first."""
    japanese = (TERMS[meaning],) if meaning in TERMS else ()
    return (meaning, *japanese, *_ALSO.get(meaning, ()))
