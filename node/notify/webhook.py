"""Webhook: a JSON message, signed as Standard Webhooks (www.standardwebhooks.com) describes it.

Headers ``webhook-id`` (the same in each attempt), ``webhook-timestamp`` and ``webhook-signature``: ``v1,`` and the Base64
of HMAC-SHA256 over ``id.timestamp.body``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from node.dicom.passcodes import read_passcode
from node.dicomweb.web_client import WebClient, WebPeer, refusal
from node.errors import NotificationRefused, PeerRejectedObject, UsersUnusable, WebNotAuthorised
from node.notify import wording
from node.notify.acknowledgement import Acknowledgement
from node.notify.notification_rows import Notification
from node.settings import WebhookSection


class WebhookTransport:
    """Posts notifications to one web service."""

    def __init__(self, section: WebhookSection, acknowledgement: Acknowledgement) -> None:
        self._section = section
        self._acknowledgement = acknowledgement
        self._peer = WebPeer(
            url=section.url,
            connect_timeout_seconds=section.connect_timeout_seconds,
            response_timeout_seconds=section.response_timeout_seconds,
            tls=section.tls,
        )

    def send(self, notification: Notification) -> str:
        """Post, and return what was answered.

        Raises
        ------
        PeerUnreachable, PeerBusy, NoResponse
            As :meth:`WebClient.request`; HTTP 429 and 5xx are passing.
        NotificationRefused
            Any other status than 2xx.
        """
        return self.post(notification.control_id, self._message(notification))

    def post(self, message_id: str, content: Mapping[str, Any]) -> str:
        """Post a signed JSON message, and return what was answered. Raises as :meth:`send`."""
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        stamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(self._secret(), message_id, stamp, body),
        }
        with WebClient(self._peer) as client:
            response = client.request("POST", "", content=body, headers=headers)
        if response.is_success:
            return f"HTTP {response.status_code}"
        error = refusal(self._peer, response, "the notification was not taken")
        if isinstance(error, PeerRejectedObject):
            raise NotificationRefused(error.message, **error.detail)
        raise error

    def _message(self, notification: Notification) -> dict[str, Any]:
        content = notification.content
        alert_id = notification.alert_id
        acknowledge: Mapping[str, str] = {}
        if alert_id is not None:
            acknowledge = {
                "token": self._acknowledgement.token(alert_id),
                "url": self._acknowledgement.link(alert_id),
            }
        return {
            "id": notification.control_id,
            "status": "retracted" if content["event"] == "retraction" else "preliminary",
            **content,
            "summary": wording.headline(content),
            "acknowledge": acknowledge,
        }

    def _secret(self) -> bytes:
        try:
            return read_passcode(self._section.secret_file)
        except UsersUnusable as error:
            raise WebNotAuthorised(error.message.replace("passcode_file", "secret_file")) from error


def signature(secret: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Value of ``webhook-signature``. A secret of the form ``whsec_…`` is Base64, any other is taken as it is."""
    key = base64.b64decode(secret.removeprefix(b"whsec_")) if secret.startswith(b"whsec_") else secret
    signed = b".".join([message_id.encode("ascii"), timestamp.encode("ascii"), body])
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")
