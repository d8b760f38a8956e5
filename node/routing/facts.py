"""What routing sees of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.orders import Order

# Words that tell a phase after contrast, in the order in which they decide; English, German, Japanese.
_PHASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("delayed", ("delay", "late phase", "equilibrium", "spaet", "spät", "平衡", "遅延", "後期")),
    ("arterial", ("arter", "动脉", "動脈")),
    ("venous", ("venous", "portal", "venös", "门脉", "門脈", "静脈")),
    ("plain", ("plain", "native", "nativ", "non-contrast", "noncontrast", "without contrast", "unenhanced", "単純")),
)


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What routing sees of one instance.

    Attributes
    ----------
    modality, calling_ae_title, called_ae_title : str
        As received.
    headers : mapping
        ``InstanceHeader.routing`` of node/archive/headers.py.
    series_uid : str
        Series Instance UID.
    """

    modality: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    series_uid: str = ""

    @property
    def frames(self) -> int:
        """Images it holds: a multi-frame object has several."""
        return max(1, int(self.headers.get("number_of_frames") or 1))

    def tag(self, keyword: str) -> list[str]:
        """Values of a kept attribute."""
        return list((self.headers.get("tags") or {}).get(keyword, ()))

    @property
    def contrast_phase(self) -> str:
        """``plain``, ``arterial``, ``venous`` or ``delayed``, by what the series is called; empty where nothing says."""
        named = " ".join(str(self.headers.get(key) or "") for key in ("series_description", "protocol_name")).casefold()
        for phase, words in _PHASES:
            if any(word in named for word in words):
                return phase
        return ""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a rule may ask for beside the images.

    Attributes
    ----------
    study_uid : str
        Decides whether a study is in a sample, the same way each time.
    orders : tuple of Order
        Those accepted for the study.
    minute_of_day : int or None
        Of the site's wall clock when the study is decided; None: hours are not looked at.
    """

    study_uid: str = ""
    orders: tuple[Order, ...] = ()
    minute_of_day: int | None = None


def by_series(instances: Iterable[InstanceFacts]) -> dict[str, list[InstanceFacts]]:
    """Instances by their series, in the order of the UIDs."""
    found: dict[str, list[InstanceFacts]] = {}
    for facts in instances:
        found.setdefault(facts.series_uid, []).append(facts)
    return dict(sorted(found.items()))


def count(instances: Sequence[InstanceFacts]) -> int:
    """Images and frames."""
    return sum(facts.frames for facts in instances)
