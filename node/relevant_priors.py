"""Which earlier studies matter for an order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from node import jj1017
from node.orders import Order
from node.settings import PriorsSection

# Region of the body → words that tell it, in descriptions, body parts and code meanings; English and Japanese.
_REGIONS: dict[str, tuple[str, ...]] = {
    "head": ("head", "brain", "cranial", "skull", "stroke", "cerebr", "頭", "脳"),
    "neck": ("neck", "cervical", "carotid", "thyroid", "larynx", "頸", "頚", "甲状腺"),
    "chest": ("chest", "thorax", "lung", "thoracic", "cardiac", "heart", "胸", "肺", "心臓"),
    "abdomen": ("abdom", "liver", "kidney", "pancrea", "hepat", "renal", "腹", "肝", "腎", "膵"),
    "pelvis": ("pelvi", "prostate", "uter", "bladder", "骨盤", "前立腺", "子宮", "膀胱"),
    "spine": ("spine", "lumbar", "sacr", "lspine", "脊椎", "腰椎", "脊髄"),
    "breast": ("breast", "mammo", "乳房", "乳腺"),
    "limb": (
        "knee",
        "hip",
        "shoulder",
        "wrist",
        "ankle",
        "elbow",
        "foot",
        "hand",
        "femur",
        "膝",
        "股関節",
        "肩",
        "足",
        "手",
    ),
}


@dataclass(frozen=True, slots=True)
class EarlierStudy:
    """A study as an archive lists it (PS3.4 C.6.2.1, level STUDY)."""

    study_uid: str
    patient_id: str
    study_date: str
    modalities: tuple[str, ...] = ()
    description: str = ""
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """An earlier study that is to be fetched, and why."""

    study: EarlierStudy
    words: str


def relevant(order: Order, studies: Iterable[EarlierStudy], section: PriorsSection, today: date) -> list[Chosen]:
    """The earlier studies that matter, the most relevant first.

    Same region counts before same modality, then the later date. What is known to be something else (region or
    modality, where the settings ask for the same) is left out; what says nothing about it is not.
    """
    wanted = regions(order_words(order))
    ranked = []
    for study in studies:
        age = _age_days(study.study_date, today)
        if (
            study.study_uid == order.study_uid
            or study.patient_id.strip() != order.patient_id.strip()
            or age is None
            or not 0 <= age <= section.maximum_age_days
        ):
            continue
        has = regions([study.description])
        same_region = bool(wanted & has)
        allowed = section.modalities or ([order.modality] if section.same_modality and order.modality else [])
        same_modality = order.modality in study.modalities
        if section.same_region and wanted and has and not same_region:
            continue
        if allowed and study.modalities and not set(allowed) & set(study.modalities):
            continue
        if study.instances is not None and study.instances > section.maximum_instances:
            continue
        reasons = [
            *(["same region"] if same_region else []),
            *(["same modality"] if same_modality else []),
            f"{age} day(s) old",
        ]
        ranked.append(((not same_region, not same_modality, age), Chosen(study, ", ".join(reasons))))
    ranked.sort(key=lambda each: (each[0], each[1].study.study_uid))
    return [chosen for _, chosen in ranked[: section.maximum_studies]]


def order_words(order: Order) -> list[str]:
    """Everything in an order that may tell the region."""
    labels = [each.label() for code in order.codes if (each := jj1017.decode(code.value, code.scheme)) is not None]
    meanings = [code.meaning for code in order.codes]
    return [order.requested_procedure_description, order.step_description, *meanings, *labels]


def regions(texts: Sequence[str]) -> frozenset[str]:
    """Regions of the body that texts name."""
    joined = " ".join(texts).casefold()
    return frozenset(region for region, words in _REGIONS.items() if any(word in joined for word in words))


def _age_days(study_date: str, today: date) -> int | None:
    try:
        return (today - datetime.strptime(study_date.replace(".", ""), "%Y%m%d").date()).days
    except ValueError:
        return None
