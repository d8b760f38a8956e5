"""Configuration: node.toml and routing.toml, one module for each room.

Every key is declared here, with unit and range; unknown keys, clashes and bad ranges stop the start with
file, key and remedy. Without any file the node works on loopback.
"""

from node.settings.archives import ReconcileSection, WatchSection
from node.settings.base import LogSection, NodeSection, StoreSection, WebSection
from node.settings.delivery import (
    AvailabilitySection,
    DeliverySection,
    DestinationSection,
    DestinationTlsSection,
    ProfileSection,
)
from node.settings.evidence import EvidenceSection, PriorsSection, RequestorSection, WorklistSection
from node.settings.hl7 import Hl7InboundSection
from node.settings.notify import (
    EmailSection,
    EscalationSection,
    FhirSection,
    Hl7Section,
    NotificationsSection,
    NotifySection,
    NotifyWhen,
    WebhookSection,
)
from node.settings.receive import PeerRule, ReceiveSection, ReceiveTlsSection
from node.settings.remote import CleanSection, EndpointSection, RemoteSection
from node.settings.section import Section
from node.settings.web_service import ClientTlsSection, OAuthSection, SourceSection
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
    "AvailabilitySection",
    "CleanSection",
    "ClientTlsSection",
    "DeliverySection",
    "DestinationSection",
    "DestinationTlsSection",
    "EmailSection",
    "EndpointSection",
    "EscalationSection",
    "EvidenceSection",
    "FhirSection",
    "Hl7InboundSection",
    "Hl7Section",
    "ImageMatch",
    "JobsSection",
    "LogSection",
    "ModelsSection",
    "NodeSection",
    "NotificationsSection",
    "NotifySection",
    "NotifyWhen",
    "OAuthSection",
    "OrderMatch",
    "PeerRule",
    "PriorsSection",
    "ProfileSection",
    "ReceiveSection",
    "ReceiveTlsSection",
    "ReconcileSection",
    "RemoteSection",
    "RequestorSection",
    "RoleSection",
    "RuleMatch",
    "RuleSection",
    "Section",
    "Settings",
    "SourceSection",
    "StoreSection",
    "WatchSection",
    "WebSection",
    "WebhookSection",
    "WorklistSection",
    "load",
]
