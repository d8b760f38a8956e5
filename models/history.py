"""Sentences about earlier results: how a lesion compares with an earlier study, and which result this one replaces."""

from __future__ import annotations

from models.report_facts import format_ml
from models.results import Change, Comparison, LesionChange, NotCompared, Outcome, Replaced, StudyResult

LISTED = 5
"""Lesions that get a sentence each."""

_EN_CHANGE = {
    Change.NEW: "new",
    Change.LARGER: "larger",
    Change.SMALLER: "smaller",
    Change.UNCHANGED: "unchanged",
    Change.RESOLVED: "no longer found",
}
_JA_CHANGE = {
    Change.NEW: "新出",
    Change.LARGER: "増大",
    Change.SMALLER: "縮小",
    Change.UNCHANGED: "著変なし",
    Change.RESOLVED: "認めなくなった",
}
_EN_STATES: dict[Outcome | None, str] = {
    Outcome.NOTHING_FOUND: "nothing found",
    Outcome.NOT_ASSESSED: "not assessed",
}
_JA_STATES: dict[Outcome | None, str] = {Outcome.NOTHING_FOUND: "所見なし", Outcome.NOT_ASSESSED: "評価不能"}
_EN_NOT_COMPARED = {
    NotCompared.IDENTITY_DOUBTFUL: (
        "An earlier AI result exists under this Patient ID. It was not compared: the patient identity of both studies "
        "does not agree in every respect."
    ),
    NotCompared.NOT_COMPARABLE: (
        "An earlier AI result exists. It was not compared: the images of both studies could not be brought into agreement."
    ),
    NotCompared.IMAGES_GONE: (
        "An earlier AI result exists. It was not compared: its images or its stored result are no longer on this node."
    ),
}
_JA_NOT_COMPARED = {
    NotCompared.IDENTITY_DOUBTFUL: (
        "この患者IDには過去のAI結果があるが、両検査の患者情報が完全には一致しないため、比較していない。"
    ),
    NotCompared.NOT_COMPARABLE: "過去のAI結果があるが、両検査の画像の位置を合わせられないため、比較していない。",
    NotCompared.IMAGES_GONE: "過去のAI結果があるが、その画像または保存結果が本ノードに残っていないため、比較していない。",
}


def compared(comparison: Comparison, language: str) -> list[str]:
    """Findings: the whole, then the lesions one by one."""
    lesions = comparison.lesions[:LISTED]
    if language == "ja":
        return [_ja_whole(comparison), *(_ja_lesion(each) for each in lesions), _ja_tolerance(comparison)]
    return [_en_whole(comparison), *(_en_lesion(each) for each in lesions), _en_tolerance(comparison)]


def compared_impression(comparison: Comparison, language: str) -> str:
    """Impression: the whole."""
    return _ja_whole(comparison) if language == "ja" else _en_whole(comparison)


def not_compared(reason: NotCompared, language: str) -> str:
    """That there is an earlier result, and why it was not compared with."""
    return (_JA_NOT_COMPARED if language == "ja" else _EN_NOT_COMPARED)[reason]


def replaced(result: StudyResult, earlier: Replaced, language: str) -> str:
    """Which result this one replaces, and what is different."""
    change = changed(result.outcome, result.total_ml, earlier, language)
    if language == "ja":
        return f"本結果は{earlier.moment}の結果（実行{earlier.run}回目）に代わるものである：{change}。"
    return f"This result replaces the one of {earlier.moment} (run {earlier.run}): {change}."


def changed(outcome: Outcome | None, total_ml: float | None, earlier: Replaced, language: str) -> str:
    """What is different from an earlier result: ``"12 → 14 mL; 20 images added (FLAIR)"``.

    Parameters
    ----------
    outcome, total_ml
        Of the result that stands now; None where it has none.
    """
    if language == "ja":
        return "、".join([_ja_outcomes(outcome, total_ml, earlier), *_ja_images(earlier)])
    return "; ".join([_en_outcomes(outcome, total_ml, earlier), *_en_images(earlier)])


def changed_shortly(total_ml: float | None, earlier: Replaced) -> str:
    """Both total volumes, in a few ASCII characters for a line in a list; empty where one of them is not known."""
    if total_ml is None or earlier.total_ml is None:
        return ""
    before, now = format_ml(earlier.total_ml), format_ml(total_ml)
    return f"{before} -> {now} mL" if before != now else f"still {now} mL"


def _date(da: str) -> str:
    return f"{da[:4]}-{da[4:6]}-{da[6:]}" if len(da) == 8 else ""


def _percent(comparison_ml: float | None, prior_ml: float | None) -> str:
    if not prior_ml or comparison_ml is None:
        return ""
    return f"{100.0 * (comparison_ml - prior_ml) / prior_ml:+.0f} %"


def _en_whole(comparison: Comparison) -> str:
    date = _date(comparison.prior_date)
    when = f" of {date}" if date else ""
    percent = _percent(comparison.current_ml, comparison.prior_ml)
    how = f" ({percent})" if percent else ""
    return (
        f"Compared with the AI result on the study{when}: total volume {format_ml(comparison.prior_ml)} → "
        f"{format_ml(comparison.current_ml)} mL{how}, {_EN_CHANGE[comparison.change]}."
    )


def _en_lesion(lesion: LesionChange) -> str:
    word = _EN_CHANGE[lesion.change]
    if lesion.current_ml is None:
        return f"Earlier {lesion.label} ({format_ml(lesion.prior_ml or 0.0)} mL): {word}."
    if lesion.prior_ml is None:
        return f"{lesion.label}: {word}, {format_ml(lesion.current_ml)} mL."
    percent = _percent(lesion.current_ml, lesion.prior_ml)
    return f"{lesion.label}: {word}, {format_ml(lesion.prior_ml)} → {format_ml(lesion.current_ml)} mL ({percent})."


def _en_tolerance(comparison: Comparison) -> str:
    return f"Changes of up to {100 * comparison.tolerance:.0f} % or {format_ml(comparison.tolerance_ml)} mL count as unchanged."


def _ja_whole(comparison: Comparison) -> str:
    date = _date(comparison.prior_date)
    when = f"{date}の検査" if date else "過去の検査"
    percent = _percent(comparison.current_ml, comparison.prior_ml)
    how = f"（{percent}）" if percent else ""
    return (
        f"{when}のAI結果との比較：総体積{format_ml(comparison.prior_ml)}→{format_ml(comparison.current_ml)} mL{how}、"
        f"{_JA_CHANGE[comparison.change]}。"
    )


def _ja_lesion(lesion: LesionChange) -> str:
    word = _JA_CHANGE[lesion.change]
    if lesion.current_ml is None:
        return f"過去の病変（{lesion.label}、{format_ml(lesion.prior_ml or 0.0)} mL）：{word}。"
    if lesion.prior_ml is None:
        return f"病変（{lesion.label}）：{word}、{format_ml(lesion.current_ml)} mL。"
    percent = _percent(lesion.current_ml, lesion.prior_ml)
    return (
        f"病変（{lesion.label}）：{word}、{format_ml(lesion.prior_ml)}→{format_ml(lesion.current_ml)} mL（{percent}）。"
    )


def _ja_tolerance(comparison: Comparison) -> str:
    return (
        f"{100 * comparison.tolerance:.0f} %または{format_ml(comparison.tolerance_ml)} mL以下の変化は著変なしとした。"
    )


def _en_state(outcome: Outcome | None, total_ml: float | None) -> str:
    if outcome is Outcome.FOUND and total_ml is not None:
        return f"{format_ml(total_ml)} mL"
    return _EN_STATES.get(outcome, "no result")


def _en_outcomes(outcome: Outcome | None, total_ml: float | None, earlier: Replaced) -> str:
    before, now = _en_state(earlier.outcome, earlier.total_ml), _en_state(outcome, total_ml)
    return f"{before} → {now}" if before != now else f"still {now}"


def _en_images(earlier: Replaced) -> list[str]:
    said = []
    series = f" ({', '.join(earlier.series_added)})" if earlier.series_added else ""
    if earlier.images_added:
        said.append(f"{earlier.images_added} images added{series}")
    if earlier.images_removed:
        said.append(f"{earlier.images_removed} images left out")
    return said


def _ja_state(outcome: Outcome | None, total_ml: float | None) -> str:
    if outcome is Outcome.FOUND and total_ml is not None:
        return f"{format_ml(total_ml)} mL"
    return _JA_STATES.get(outcome, "結果なし")


def _ja_outcomes(outcome: Outcome | None, total_ml: float | None, earlier: Replaced) -> str:
    before, now = _ja_state(earlier.outcome, earlier.total_ml), _ja_state(outcome, total_ml)
    return f"{before}→{now}" if before != now else f"変わらず{now}"


def _ja_images(earlier: Replaced) -> list[str]:
    said = []
    series = f"（{'、'.join(earlier.series_added)}）" if earlier.series_added else ""
    if earlier.images_added:
        said.append(f"画像{earlier.images_added}枚追加{series}")
    if earlier.images_removed:
        said.append(f"画像{earlier.images_removed}枚除外")
    return said
