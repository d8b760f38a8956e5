"""What a requestor may use an association for: the SOP classes of the services that it is allowed.

Everything is accepted or not when the association is negotiated; Verification always is.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import sop_class
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    UnifiedProcedureStepEvent,
    Verification,
)

from node.settings import PeerService

_SERVICE_OF: dict[UID, PeerService] = {
    ModalityPerformedProcedureStep: "performed_steps",
    InstanceAvailabilityNotification: "notifications",
    StorageCommitmentPushModel: "commitment",
    UnifiedProcedureStepEvent: "workitems",
}


def keep_to(services: Collection[PeerService] | None, association: Association) -> None:
    """Have what is not allowed refused as an abstract syntax that is not supported, before the contexts are negotiated.

    Parameters
    ----------
    services : collection or None
        None: all of them.
    association : Association
        An acceptor's that has its request.
    """
    proposed = cast(A_ASSOCIATE, association.requestor.primitive).presentation_context_definition_list
    _bar_other_services(proposed)
    if services is None:
        return
    supported = association.acceptor.supported_contexts
    association.acceptor.supported_contexts = [each for each in supported if _is_allowed(each, services)]
    if "images" not in services:
        for context in proposed:
            uid = UID(str(context.abstract_syntax))
            if uid != Verification and uid not in _SERVICE_OF:
                # The answer names contexts by their numbers; this one is no storage, known to the library, and not here.
                context._abstract_syntax = PatientRootQueryRetrieveInformationModelFind


def _is_allowed(context: PresentationContext, services: Collection[PeerService]) -> bool:
    service = _SERVICE_OF.get(UID(str(context.abstract_syntax)))
    return service is None or service in services


class _OtherService(UID):
    """A SOP class that is no storage and that pynetdicom has no name for: to the library it looks like a new image."""

    @property
    def keyword(self) -> str:
        """That of a service it knows, so that it is looked for among those that are supported, and not found."""
        return "Verification"


def _bar_other_services(contexts: list[PresentationContext]) -> None:
    """Have services refused that the library would take for storage of an unknown kind, the worklist among them."""
    for context in contexts:
        uid = UID(str(context.abstract_syntax))
        is_storage = "Storage" in uid.name and "Commitment" not in uid.name
        if uid in UID_dictionary and not is_storage and not hasattr(sop_class, uid.keyword):
            context._abstract_syntax = _OtherService(uid)
