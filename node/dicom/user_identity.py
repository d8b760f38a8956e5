"""User Identity Negotiation (PS3.7 D.3.3.7): user name and passcode, asked for and offered."""

from __future__ import annotations

from pathlib import Path

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from node.dicom.passcodes import Users, read_passcode
from node.errors import PeerUnreachable, UsersUnusable

# PS3.7 table D.3-14, User-Identity-Type.
USERNAME = 1
USERNAME_AND_PASSCODE = 2


def identity_item(username: str, passcode_file: Path | None) -> UserIdentityNegotiation:
    """The item of an association request.

    Raises
    ------
    PeerUnreachable
        The file of the passcode cannot be used; sending is retried.
    """
    item = UserIdentityNegotiation()
    item.user_identity_type = USERNAME if passcode_file is None else USERNAME_AND_PASSCODE
    item.primary_field = username.encode()
    if passcode_file is not None:
        try:
            item.secondary_field = read_passcode(passcode_file)
        except UsersUnusable as error:
            raise PeerUnreachable(error.message) from error
    return item


def is_accepted(association: Association, users: Users | None, *, required: bool) -> bool:
    """Whether the requestor is who it must be.

    Parameters
    ----------
    users : Users or None
        None: whatever is offered is ignored, as D.3.3.7 allows an acceptor that does not support the item.
    required : bool
        Whether a request without the item is refused. A name without a passcode proves nothing and never passes.
    """
    offered = association.requestor.user_identity
    if users is None:
        return True
    if offered is None:
        return not required
    if offered.user_identity_type != USERNAME_AND_PASSCODE:
        return False
    name = (offered.primary_field or b"").decode("utf-8", "replace")
    if not users.accepts(name, offered.secondary_field or b""):
        return False
    if offered.positive_response_requested:
        answer = UserIdentityNegotiation()
        # D.3.3.7.2: of no length for a user name.
        answer.server_response = b""
        association.acceptor.add_negotiation_item(answer)
    return True
