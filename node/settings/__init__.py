"""Configuration: node.toml and routing.toml, one module for each room.

Every key is declared here, with unit and range; unknown keys, clashes and bad ranges stop the start with
file, key and remedy. Without any file the node works on loopback.
"""

from node.settings.archives import ReconcileSection, WatchSection
from node.settings.base import LogSection, NodeSection, StoreSection
from node.settings.delivery import (
    AvailabilitySection,
    DeliverySection,
    DestinationSection,
    DestinationTlsSection,
    ProfileSection,
)
from node.settings.dicomweb import DicomWebSection
from node.settings.evidence import EvidenceSection, PriorsSection, RequestorSection, WorklistSection
from node.settings.external import ExternalSection
from node.settings.hl7 import Hl7InboundSection
from node.settings.model_host import ModelHostSection
from node.settings.monitor import CANARY, AuditSection, CanarySection, MonitorSection
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
from node.settings.prompts import PromptSection
from node.settings.receive import PeerRule, PeerService, ReceiveSection, ReceiveTlsSection
from node.settings.remote import CleanSection, EndpointSection, RemoteSection
from node.settings.retention import RetentionSection
from node.settings.section import Section
from node.settings.server_tls import ServerTlsSection
from node.settings.web import OidcSection, WebSection, WebTlsSection
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
from node.settings.workitems import WorkitemsSection

__all__ = [
    "CANARY",
    "ArrivalSection",
    "AuditSection",
    "AvailabilitySection",
    "CanarySection",
    "CleanSection",
    "ClientTlsSection",
    "DeliverySection",
    "DestinationSection",
    "DestinationTlsSection",
    "DicomWebSection",
    "EmailSection",
    "EndpointSection",
    "EscalationSection",
    "EvidenceSection",
    "ExternalSection",
    "FhirSection",
    "Hl7InboundSection",
    "Hl7Section",
    "ImageMatch",
    "JobsSection",
    "LogSection",
    "ModelHostSection",
    "ModelsSection",
    "MonitorSection",
    "NodeSection",
    "NotificationsSection",
    "NotifySection",
    "NotifyWhen",
    "OAuthSection",
    "OidcSection",
    "OrderMatch",
    "PeerRule",
    "PeerService",
    "PriorsSection",
    "ProfileSection",
    "PromptSection",
    "ReceiveSection",
    "ReceiveTlsSection",
    "ReconcileSection",
    "RemoteSection",
    "RequestorSection",
    "RetentionSection",
    "RoleSection",
    "RuleMatch",
    "RuleSection",
    "Section",
    "ServerTlsSection",
    "Settings",
    "SourceSection",
    "StoreSection",
    "WatchSection",
    "WebSection",
    "WebTlsSection",
    "WebhookSection",
    "WorkitemsSection",
    "WorklistSection",
    "load",
]
