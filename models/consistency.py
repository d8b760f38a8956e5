"""Does a report text say what was measured? The gate between generated text and the PACS."""

from __future__ import annotations

from models import claim_grammar as grammar
from models.claims import Bound, CountClaim, Polarity, Role, Segment, VolumeClaim, normalise, read_claims
from models.report_facts import ReportFacts, mean_adc_um2_s
from models.results import Draft, Laterality, Outcome, StudyResult

_BOTH = (Laterality.LEFT, Laterality.RIGHT)


def contradictions(draft: Draft, result: StudyResult, *, complete: bool = True) -> tuple[str, ...]:
    """Return what ``draft`` states against ``result``, each as an English phrase; empty when it may stand.

    Checked in findings and impression: presence and absence, sides, number of lesions, volumes (each number to the
    precision it is written with), ADC values, lesion numbers, language, numbers that mean nothing measured, and
    subjects the result does not cover (haemorrhage, vessels, age, anatomic site, lengths, times …). The impression
    must also say whether the finding is present, unless ``complete`` is False. Notes are fixed sentences and are not
    checked.
    """
    facts = ReportFacts.of(result)
    adcs = [lesion.adc_um2_s for lesion in facts.lesions] + [mean_adc_um2_s(result.totals)]
    measured_adcs = [adc for adc in adcs if adc is not None]
    problems: dict[str, None] = {}
    for text in (draft.findings, draft.impression):
        segments = read_claims(text)
        for problem in (
            *_language_problems(text, draft.language),
            *_subject_problems(text, result),
            *_presence_problems(segments, facts),
            *_figure_problems(segments, facts, measured_adcs),
        ):
            problems[problem] = None
    if complete and (problem := _silence(draft.impression, facts)):
        problems[problem] = None
    return tuple(problems)


def omissions(draft: Draft, result: StudyResult) -> tuple[str, ...]:
    """Return what the impression of ``draft`` leaves out: total volume, number of lesions, side.

    A true sentence that hides the size of an infarct is no report. Only FOUND can be incomplete.
    """
    facts = ReportFacts.of(result)
    if facts.outcome is not Outcome.FOUND:
        return ()
    segments = read_claims(draft.impression)
    volumes = [v for s in segments for v in s.volumes if v.role in (Role.TOTAL, Role.ANY) and v.side is None]
    volumes += [v for s in segments for v in s.volumes if v.side is facts.side]
    missing = []
    if not any(v.span.admits(facts.total_ml) for v in volumes):
        missing.append("the total volume is not stated")
    if not any(c.count == facts.count or c.at_least for s in segments for c in s.counts):
        missing.append("the number of lesions is not stated")
    if facts.side is not Laterality.UNKNOWN and not any(s.sides for s in segments):
        missing.append("the side is not stated")
    return tuple(missing)


def _language_problems(text: str, language: str) -> list[str]:
    if text and bool(grammar.JAPANESE.search(text)) != (language == "ja"):
        return [f"the text is not in the language asked for ({language})"]
    return []


def _subject_problems(text: str, result: StudyResult) -> list[str]:
    if result.outcome is Outcome.NOT_ASSESSED:
        return []
    subject = f"{result.title} {result.finding.meaning} {result.site.meaning}".lower()
    for match in (*grammar.VOLUME.finditer(plain := normalise(text)), *grammar.ADC.finditer(plain)):
        plain = plain.replace(match.group(0), " ")
    hits = ((pattern.search(plain), name) for pattern, name in grammar.UNMEASURED)
    return [
        f"names {name} ({hit.group(0)!r}), which was not measured"
        for hit, name in hits
        if hit and hit.group(0) not in subject
    ]


def _presence_problems(segments: list[Segment], facts: ReportFacts) -> list[str]:
    problems = []
    for segment in segments:
        if facts.outcome is Outcome.NOT_ASSESSED:
            if segment.polarity in (Polarity.PRESENT, Polarity.ABSENT):
                problems.append(f"states that the finding is {segment.polarity}, but nothing was assessed")
        elif segment.polarity is Polarity.UNCLEAR:
            problems.append("asserts and denies the finding in one statement")
        elif segment.polarity is Polarity.ABSENT and _denies_what_is_there(segment, facts):
            problems.append("denies a finding that was measured")
        elif segment.polarity is Polarity.PRESENT and facts.outcome is Outcome.NOTHING_FOUND:
            problems.append("asserts a finding, but nothing was found")
    return problems


def _denies_what_is_there(segment: Segment, facts: ReportFacts) -> bool:
    if facts.outcome is not Outcome.FOUND or (segment.other_only and not segment.sides):
        return False
    sides = _expand(segment.sides)
    return not sides or any(facts.has_side(side) or facts.side is side for side in sides)


def _expand(sides: frozenset[Laterality]) -> set[Laterality]:
    return {s for side in sides for s in (_BOTH if side is Laterality.BILATERAL else (side,))}


def _silence(impression: str, facts: ReportFacts) -> str:
    expected = {Outcome.FOUND: Polarity.PRESENT, Outcome.NOTHING_FOUND: Polarity.ABSENT}.get(facts.outcome)
    if expected and not any(s.polarity is expected for s in read_claims(impression)):
        return f"the impression does not state that the finding is {expected}"
    return ""


def _figure_problems(segments: list[Segment], facts: ReportFacts, adcs: list[float]) -> list[str]:
    if facts.outcome is Outcome.NOT_ASSESSED:
        stated = any(s.volumes or s.counts for s in segments)
        return ["states volumes or counts, but nothing was assessed"] if stated else []
    problems = _side_problems(segments, facts)
    for segment in segments:
        problems += [p for count in segment.counts if (p := _count_problem(count, segment, facts))]
        problems += [p for volume in segment.volumes if (p := _volume_problem(volume, segment, facts))]
        for span, number in segment.adcs:
            own = [lesion.adc_um2_s for lesion in facts.lesions if lesion.number == number and number is not None]
            if not any(span.admits(adc) for adc in (own or adcs) if adc is not None):
                problems.append(f"ADC {span.text!r} was not measured")
        problems += [
            f"FLAIR signal ratio {span.text!r} was not measured"
            for span in segment.flair_ratios
            if facts.flair_ratio is None or not span.admits(facts.flair_ratio)
        ]
        numbers = {lesion.number for lesion in facts.lesions}
        problems += [f"names lesion {n}, which does not exist" for n in segment.lesions_named if n not in numbers]
        problems += [f"number {n!r} is nothing measured" for n in segment.unread_numbers]
    return problems


def _side_problems(segments: list[Segment], facts: ReportFacts) -> list[str]:
    problems = []
    claimed: set[Laterality] = set()
    for segment in segments:
        if segment.polarity is Polarity.ABSENT:
            continue
        claimed |= segment.sides
        for side in segment.sides:
            there = facts.side is side or any(x.side is side for x in facts.lesions) or facts.has_side(side)
            if not there:
                problems.append(f"side {side} is named, measured is {facts.side}")
        for number in segment.lesions_named:
            side_of = {x.number: x.side for x in facts.lesions}.get(number)
            if segment.sides and side_of and segment.sides != {side_of} and side_of is not Laterality.UNKNOWN:
                problems.append(
                    f"lesion {number} is said to be {'/'.join(sorted(segment.sides))}, measured is {side_of}"
                )
    needed = {side for side in _BOTH if facts.has_side(side)} | {x.side for x in facts.lesions} & {Laterality.MIDLINE}
    if claimed and (missing := needed - _expand(frozenset(claimed))):
        named, missed = (", ".join(sorted(sides)) for sides in (claimed, missing))
        problems.append(f"only side {named} is named, measured is {missed} too")
    return problems


def _count_problem(claim: CountClaim, segment: Segment, facts: ReportFacts) -> str:
    if segment.polarity is Polarity.ABSENT and facts.outcome is Outcome.NOTHING_FOUND:
        return ""
    expected = len(facts.on_side(claim.side)) if claim.side in _BOTH and claim.side else facts.count
    if claim.remaining:
        fits = claim.count < facts.count
    elif claim.at_least:
        fits = expected >= claim.count
    else:
        fits = claim.count == expected
    return "" if fits else f"count {claim.text!r} does not match {expected} measured"


def _volume_problem(claim: VolumeClaim, segment: Segment, facts: ReportFacts) -> str:
    where = f" on the {claim.side}" if claim.side else f" of lesion {claim.lesion}" if claim.lesion else ""
    if not any(claim.span.admits(volume) for volume in _accepted_volumes(claim, segment, facts)):
        return f"{claim.role} {claim.span.text!r}{where} was not measured"
    if claim.over_thresholds is not None and not _is_measured_range(claim, facts):
        low, high = claim.over_thresholds
        return f"range '{low.text}-{high.text}' of {claim.role}{where} was not measured"
    return ""


def _is_measured_range(claim: VolumeClaim, facts: ReportFacts) -> bool:
    """Whether what has this volume has this range over the decision thresholds, too."""
    total = (facts.total_ml, facts.total_range_ml)
    lesions = [(x.volume_ml, x.range_ml) for x in facts.lesions if claim.lesion in (None, x.number)]
    of_lesion = claim.lesion is not None and claim.role is Role.ANY
    measured = [total] if claim.role is Role.TOTAL else lesions if of_lesion else [total, *lesions]
    assert claim.over_thresholds is not None
    low, high = claim.over_thresholds
    return any(
        claim.span.admits(volume) and limits is not None and low.admits(limits[0]) and high.admits(limits[1])
        for volume, limits in measured
    )


def _accepted_volumes(claim: VolumeClaim, segment: Segment, facts: ReportFacts) -> list[float]:
    limits = [v for v in (facts.detection_limit_ml, facts.reporting_threshold_ml) if v is not None]
    if claim.role is Role.LIMIT:
        return [] if facts.detection_limit_ml is None else [facts.detection_limit_ml]
    if claim.role is Role.THRESHOLD:
        return [] if facts.reporting_threshold_ml is None else [facts.reporting_threshold_ml]
    if facts.outcome is Outcome.NOTHING_FOUND:
        exact = claim.role is Role.ANY and segment.polarity is Polarity.ABSENT
        inside = [v for v in limits if claim.span.low <= v <= claim.span.high] if exact else []
        return inside + ([0.0] if claim.span.bound is Bound.EQUAL else [])
    return _measured_volumes(claim, facts)


def _measured_volumes(claim: VolumeClaim, facts: ReportFacts) -> list[float]:
    if claim.lesion is not None and claim.role is Role.ANY:
        return [x.volume_ml for x in facts.lesions if x.number == claim.lesion and claim.side in (None, x.side)]
    side = claim.side
    lesions = facts.lesions if side is None else facts.on_side(side)
    total = facts.total_ml if side is None or side is facts.side else sum(x.volume_ml for x in lesions)
    if not lesions:
        return []
    if claim.role is Role.TOTAL:
        return [total]
    if claim.role is Role.LARGEST:
        return [x.volume_ml for x in facts.lesions[:1] if side in (None, x.side)]
    if claim.role is Role.SMALLEST:
        return [x.volume_ml for x in facts.lesions[-1:] if side in (None, x.side)]
    volumes = [x.volume_ml for x in facts.lesions]
    if claim.role is Role.REMAINING:
        return [sum(volumes[k:]) for k in range(1, len(volumes))]
    subtotals = [sum(x.volume_ml for x in facts.on_side(s)) for s in _BOTH if facts.on_side(s)] if side is None else []
    return [total, *(x.volume_ml for x in lesions), *subtotals]
