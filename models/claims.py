"""What a report text claims: presence, sides, counts, volumes, ADC values. English and Japanese, one reading for both.

Reading is deliberately strict: what cannot be read is a claim nobody can vouch for. A false alarm costs a plainer
sentence, a missed contradiction may cost a patient.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum

from models import claim_grammar as grammar
from models.results import Laterality


class Polarity(StrEnum):
    """What a segment says of the finding. UNCLEAR: it asserts and denies in a way that can be read both ways."""

    PRESENT = "present"
    ABSENT = "absent"
    SILENT = "silent"
    UNCLEAR = "unclear"


class Role(StrEnum):
    """Which volume a number claims to be."""

    TOTAL = "total volume"
    LARGEST = "largest volume"
    SMALLEST = "smallest volume"
    REMAINING = "remaining volume"
    LIMIT = "detection limit"
    THRESHOLD = "reporting threshold"
    ANY = "volume"


class Bound(StrEnum):
    """Whether a number is the value itself or bounds it."""

    EQUAL = "equal"
    BELOW = "below"
    ABOVE = "above"


@dataclass(frozen=True, slots=True)
class Span:
    """What a number admits, given its digits: ``low`` to ``high``, or open at one end when it is a bound."""

    text: str
    low: float
    high: float
    bound: Bound = Bound.EQUAL

    def admits(self, value: float) -> bool:
        """Whether ``value`` is what the text says, to the precision it says it with."""
        if self.bound is Bound.BELOW:
            return value <= self.high
        return value >= self.low if self.bound is Bound.ABOVE else self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class VolumeClaim:
    """A number with a volume unit (mL). ``lesion`` and ``side`` are what it is said of, None when not said.

    ``over_thresholds`` is the range over decision thresholds stated behind it, lower bound first.
    """

    span: Span
    role: Role
    lesion: int | None
    side: Laterality | None
    over_thresholds: tuple[Span, Span] | None = None


@dataclass(frozen=True, slots=True)
class CountClaim:
    """A number of lesions; ``at_least`` for "multiple", ``remaining`` for "the other 3"."""

    text: str
    count: int
    at_least: bool
    remaining: bool
    side: Laterality | None


@dataclass(slots=True)
class Segment:
    """One statement. ``adcs`` pairs an ADC in 10⁻⁶ mm²/s with the lesion it is said of; ``flair_ratios`` are of all lesions."""

    text: str
    polarity: Polarity
    other_only: bool
    sides: frozenset[Laterality]
    counts: list[CountClaim] = field(default_factory=list)
    volumes: list[VolumeClaim] = field(default_factory=list)
    adcs: list[tuple[Span, int | None]] = field(default_factory=list)
    flair_ratios: list[Span] = field(default_factory=list)
    lesions_named: list[int] = field(default_factory=list)
    unread_numbers: list[str] = field(default_factory=list)


def normalise(text: str) -> str:
    """Return ``text`` in one spelling: NFKC, no invisible characters, lower case, number words as digits."""
    text = unicodedata.normalize("NFKC", text).replace("−", "-").lower()
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = grammar.ENGLISH_NUMBER.sub(lambda m: str(grammar.WORDS_EN.index(m.group(1))), text)
    return grammar.KANJI_NUMBER.sub(lambda m: str(_kanji_value(m.group(1))), text)


def _kanji_value(text: str) -> int:
    tens, ten, ones = text.rpartition("十")
    value = 10 * grammar.KANJI_DIGITS.get(tens, 1) if ten else 0
    return value + grammar.KANJI_DIGITS.get(ones, 0)


def read_claims(text: str) -> list[Segment]:
    """Return the statements of ``text`` in order."""
    segments = []
    for sentence in grammar.SENTENCE.split(normalise(text)):
        for part in grammar.CONTRAST.split(sentence):
            if part and part.strip():
                segments.append(_read_segment(part.strip()))
    return segments


def _read_segment(text: str) -> Segment:
    segment = Segment(
        text=text,
        polarity=_polarity(text),
        other_only=bool(grammar.OTHER_ONLY.search(text)),
        sides=frozenset(side for side, pattern in grammar.SIDES if pattern.search(text)),
    )
    rest = _blank(text, grammar.B_VALUE)
    segment.flair_ratios = [_number_span(match.group(1)) for match in grammar.FLAIR_RATIO.finditer(rest)]
    rest = _read_adcs(_blank(rest, grammar.FLAIR_RATIO), segment)
    labels = [(m.start(), int(m.group(1) or m.group(2))) for m in grammar.LESION_NUMBER.finditer(rest)]
    segment.lesions_named = [number for _, number in labels]
    rest = _blank(rest, grammar.LESION_NUMBER)
    rest = _read_volumes(rest, segment)
    rest = _read_counts(rest, segment)
    segment.unread_numbers += grammar.ANY_NUMBER.findall(rest)
    return segment


def _polarity(text: str) -> Polarity:
    if grammar.DOUBLE_NEGATION.search(text):
        return Polarity.UNCLEAR
    text = grammar.NEUTRAL.sub(" ", text)
    clauses = grammar.CLAUSE.split(text)
    noun = [bool(grammar.NOUN.search(clause)) for clause in clauses]
    denied = [bool(grammar.NEGATION.search(clause)) for clause in clauses]
    bare = bool(grammar.BARE_ABSENCE.search(text))
    if not any(denied):
        if bare:
            return Polarity.UNCLEAR if any(noun) and "異常" not in text else Polarity.ABSENT
        return Polarity.PRESENT if any(noun) else Polarity.SILENT
    if not any(noun):
        return Polarity.ABSENT if bare else Polarity.SILENT
    # "No artefact, acute infarct on the left": the noun is not where the negation is.
    return Polarity.ABSENT if all(d for n, d in zip(noun, denied, strict=True) if n) else Polarity.UNCLEAR


def _blank(text: str, pattern: re.Pattern[str]) -> str:
    return pattern.sub(lambda m: " " * len(m.group(0)), text)


def _number_span(text: str, scale: float = 1.0, bound: Bound = Bound.EQUAL, shown: str = "") -> Span:
    plain = text.replace(",", "") if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text) else text.replace(",", ".")
    half = 0.5 * 10.0 ** -len(plain.partition(".")[2])
    value = float(plain)
    slack = 1e-9 * max(1.0, value)
    return Span(shown or text, (value - half - slack) * scale, (value + half + slack) * scale, bound)


def _last_lesion(text: str) -> int | None:
    found = [int(m.group(1) or m.group(2)) for m in grammar.LESION_NUMBER.finditer(text)]
    return found[-1] if found else None


def _read_adcs(text: str, segment: Segment) -> str:
    for match in grammar.ADC.finditer(text):
        power = match.group("power")
        scale = 1.0 if match.group("micro") else 1e6 if power is None else 10.0 ** (6 - int(power))
        span = _number_span(match.group("number"), scale, shown=match.group(0).strip())
        segment.adcs.append((span, _last_lesion(text[: match.start()])))
    return _blank(text, grammar.ADC)


def _read_volumes(text: str, segment: Segment) -> str:
    ranges = {match.start(): _range_spans(match) for match in grammar.SWEPT.finditer(text)}
    text = _blank(text, grammar.SWEPT)
    matches = list(grammar.VOLUME.finditer(text))
    side_at = [m.start() for side, p in grammar.SIDES[1:3] for m in p.finditer(text)]
    sides_follow = bool(matches and side_at and matches[0].start() < min(side_at))
    for position, match in enumerate(matches):
        start = matches[position - 1].end() if position else 0
        stop = matches[position + 1].start() if position + 1 < len(matches) else len(text)
        before, after = text[start : match.start()], text[match.end() : stop]
        lesion = _last_lesion(segment.text[: match.start()])
        side = _nearest_side(after, last=False) if sides_follow else _nearest_side(before, last=True)
        for span in _volume_spans(match, before, after):
            segment.volumes.append(VolumeClaim(span, _role(before, after), lesion, side, ranges.get(match.end())))
    behind = {match.end() for match in matches}
    segment.unread_numbers += [f"{low.text}-{high.text}" for at, (low, high) in ranges.items() if at not in behind]
    return _blank(text, grammar.VOLUME)


def _range_spans(match: re.Match[str]) -> tuple[Span, Span]:
    low, high = (each for each in match.groups() if each is not None)
    return _number_span(low), _number_span(high)


def _volume_spans(match: re.Match[str], before: str, after: str) -> list[Span]:
    scale = next(factor for k, (_, factor) in enumerate(grammar.UNITS_ML) if match.group(f"u{k}"))
    numbers, shown = match.group("numbers"), match.group(0).strip()
    bound = Bound.EQUAL
    if grammar.BELOW_BEFORE.search(before) or grammar.BELOW_AFTER.match(after):
        bound = Bound.BELOW
    elif grammar.ABOVE_BEFORE.search(before) or grammar.ABOVE_AFTER.match(after):
        bound = Bound.ABOVE
    if limits := grammar.RANGE.match(numbers):
        low, high = (_number_span(limits.group(k), scale) for k in (1, 2))
        return [Span(shown, low.low, high.high)]
    return [_number_span(n, scale, bound, shown) for n in grammar.ANY_NUMBER.findall(numbers)]


def _role(before: str, after: str) -> Role:
    for role, pattern in ((Role.LIMIT, grammar.LIMIT), (Role.THRESHOLD, grammar.THRESHOLD)):
        if pattern.search(before):
            return role
    candidates = (
        (Role.TOTAL, grammar.TOTAL),
        (Role.LARGEST, grammar.LARGEST),
        (Role.SMALLEST, grammar.SMALLEST),
    )
    if grammar.REMAINING.search(before):
        return Role.REMAINING
    last = [(m.start(), role) for role, pattern in candidates for m in pattern.finditer(before)]
    if last:
        return max(last)[1]
    return Role.TOTAL if grammar.TOTAL_AFTER.match(after) else Role.ANY


def _nearest_side(text: str, *, last: bool) -> Laterality | None:
    """The side named next to a number; None for both sides and for "left and right"."""
    if grammar.SIDE_UNKNOWN.search(text) or grammar.SIDE_PAIR.search(text):
        return None
    found = sorted((m.start(), side) for side, pattern in grammar.SIDES for m in pattern.finditer(text))
    side = found[-1 if last else 0][1] if found else None
    return side if side in (Laterality.LEFT, Laterality.RIGHT) else None


def _one_side(text: str) -> Laterality | None:
    found = [side for side, pattern in grammar.SIDES if pattern.search(text)]
    if grammar.SIDE_UNKNOWN.search(text):
        return None
    return found[0] if len(found) == 1 and found[0] in (Laterality.LEFT, Laterality.RIGHT) else None


def _read_counts(text: str, segment: Segment) -> str:
    for clause in grammar.CLAUSE.split(text):
        # "On the left, consistent with infarct: 3 lesions" says that all three are left.
        side = _one_side(clause if any(p.search(clause) for _, p in grammar.SIDES) else text)
        remaining = bool(grammar.REMAINING.search(clause))
        for match in grammar.COUNT.finditer(clause):
            count = int(match.group(1) or match.group(2))
            segment.counts.append(CountClaim(match.group(0).strip(), count, False, remaining, side))
        for pattern, count, at_least in ((grammar.ONE, 1, False), (grammar.MANY, 2, True)):
            if word := pattern.search(clause):
                segment.counts.append(CountClaim(word.group(0), count, at_least, remaining, side))
    return _blank(text, grammar.COUNT)
