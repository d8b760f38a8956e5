"""Configuration: node.toml and routing.toml, one module for each room.

Every key is declared here, with unit and range; unknown keys, clashes and bad ranges stop the start with
file, key and remedy. Without any file the node works on loopback.
"""

from node.settings.archives import ReconcileSection, WatchSection
from node.settings.base import LogSection, NodeSection, StoreSection, WebSection
from node.settings.delivery import DeliverySection, DestinationSection, DestinationTlsSection, ProfileSection
from node.settings.evidence import EvidenceSection, PriorsSection, RequestorSection, WorklistSection
from node.settings.hl7 import Hl7InboundSection
from node.settings.receive import PeerRule, ReceiveSection, ReceiveTlsSection
from node.settings.section import Section
from node.settings.whole import Settings, load
from node.settings.work import (
    ArrivalSection,
    ImageMatch,
    JobsSection,
    ModelsSection,
    OrderMatch,
    RoleSection,
    RuleMatch,
    RuleSection,
)

__all__ = [
    "ArrivalSection",
    "DeliverySection",
    "DestinationSection",
    "DestinationTlsSection",
    "EvidenceSection",
    "Hl7InboundSection",
    "ImageMatch",
    "JobsSection",
    "LogSection",
    "ModelsSection",
    "NodeSection",
    "OrderMatch",
    "PeerRule",
    "PriorsSection",
    "ProfileSection",
    "ReceiveSection",
    "ReceiveTlsSection",
    "ReconcileSection",
    "RequestorSection",
    "RoleSection",
    "RuleMatch",
    "RuleSection",
    "Section",
    "Settings",
    "StoreSection",
    "WatchSection",
    "WebSection",
    "WorklistSection",
    "load",
]
