"""Events of managers of workitems at this node's DICOM port: Unified Procedure Step Event as a user (PS3.4 CC.2.4)."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import cast

from pynetdicom import build_context, evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import UnifiedProcedureStepEvent  # type: ignore[attr-defined]

from node.archive import workitems
from node.archive.engine import Store
from node.dicom.association import PLAIN_TRANSFER_SYNTAXES
from node.dicom.evidence_scp import NOT_AUTHORISED, PROCESSING_FAILURE, SUCCESS
from node.doorbell import PERFORMER, ring
from node.errors import StoreUnavailable
from node.settings import Settings
from node.workitem_manager import EventType

logger = logging.getLogger(__name__)


def event_contexts(settings: Settings) -> list[PresentationContext]:
    """Presentation contexts of events: none where no manager sends them."""
    if not any(each.events and each.ae_title is not None for each in settings.workitems.values()):
        return []
    context = build_context(UnifiedProcedureStepEvent, list(PLAIN_TRANSFER_SYNTAXES))
    # The manager calls, and is the provider all the same.
    context.scu_role = context.scp_role = True
    return [context]


class WorkitemEvents:
    """Takes events for one receiver process. A cancellation that is asked for is carried out; all else is a hint to look.

    Parameters
    ----------
    settings : Settings
    store : Store
    bells : Path
        Folder of the doorbells.
    """

    def __init__(self, settings: Settings, store: Store, bells: Path) -> None:
        self._sources: dict[str, list[str]] = {}
        for name, section in settings.workitems.items():
            if section.events and section.ae_title is not None:
                self._sources.setdefault(section.ae_title, []).append(name)
        self._contexts = event_contexts(settings)
        self._store = store
        self._bells = bells

    def contexts(self) -> list[PresentationContext]:
        """Presentation contexts to accept."""
        return self._contexts

    def serves(self, event: evt.Event) -> bool:
        """Whether a report is of this service."""
        return str(event.context.abstract_syntax) == str(UnifiedProcedureStepEvent)

    def serve(self, event: evt.Event) -> tuple[int, None]:
        """Answer one N-EVENT-REPORT. Only managers that the configuration names are listened to."""
        request, requestor = cast(N_EVENT_REPORT, event.request), cast(A_ASSOCIATE, event.assoc.requestor.primitive)
        caller = str(requestor.calling_ae_title).strip()
        sources = self._sources.get(caller, [])
        if not sources:
            logger.warning("an event of a workitem from %s, which is no manager of [workitems]", caller)
            return NOT_AUTHORISED, None
        if event.event_type == EventType.CANCEL_REQUESTED:
            uid = str(request.AffectedSOPInstanceUID or "")
            try:
                with self._store.write() as connection:
                    for name in sources:
                        workitems.ask_to_cancel(connection, time.time(), name, uid, caller)
            except StoreUnavailable as error:
                logger.error("a cancellation that was asked for could not be recorded: %s", error)
                return PROCESSING_FAILURE, None
        if event.event_type != EventType.PROGRESS:
            ring(self._bells, PERFORMER)
        return SUCCESS, None
