"""What the canary brings into the configuration: a rule, a destination and a profile of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.settings.delivery import DestinationSection, ProfileSection
from node.settings.monitor import CANARY
from node.settings.receive import PeerRule
from node.settings.work import RuleMatch, RuleSection

if TYPE_CHECKING:
    from node.settings.whole import Settings


def with_canary(settings: Settings) -> Settings:
    """The same settings with the canary's rule and destination, where it is enabled.

    Which study is the canary's is decided by its Study Instance UID (node/canary/runs.py): no other study ever meets this
    rule, and the canary's study meets no other.
    """
    canary = settings.canary
    if not canary.enabled:
        return settings
    destination = DestinationSection(
        ae_title=canary.ae_title,
        host=canary.host,
        port=canary.port,
        profile=CANARY,
        retry_seconds=1.0,
        retry_ceiling_seconds=5.0,
        commitment_timeout_seconds=max(5.0, canary.limit_seconds / 4),
    )
    rule = RuleSection(
        name=CANARY,
        model=canary.model,
        match=RuleMatch(calling_ae_title=[canary.ae_title]),
        destinations=[CANARY],
        priority="urgent",
        compare_with_prior=False,
    )
    door = PeerRule(ae_title=canary.ae_title, address="127.0.0.1/32")
    return settings.model_copy(
        update={
            "destination": {**settings.destination, CANARY: destination},
            "profile": {**settings.profile, CANARY: ProfileSection()},
            "rule": [*settings.rule, rule],
            "receive": settings.receive.model_copy(update={"allow": [*settings.receive.allow, door]}),
        }
    )
