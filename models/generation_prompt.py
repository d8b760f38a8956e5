"""Measured facts as the prompt of a report model: a template out of the model's card, filled in."""

from __future__ import annotations

from models.report_facts import ReportFacts, format_ml


def prompt_text(template: str, facts: ReportFacts) -> str:
    """Return ``template`` filled with the figures of ``facts``.

    Parameters
    ----------
    template : str
        A format string. Fields: ``outcome``, ``side`` (words of the typed results), ``count`` (an integer written as
        text), ``total``, ``largest`` and ``limit`` (mL, rounded as every text rounds them, empty when not stated).
    """
    return template.format(
        outcome=facts.outcome.value,
        side=facts.side.value,
        count=str(facts.count),
        total=format_ml(facts.total_ml),
        largest=format_ml(facts.lesions[0].volume_ml) if facts.lesions else "",
        limit="" if facts.detection_limit_ml is None else format_ml(facts.detection_limit_ml),
    )
