"""Tells channels about the node itself. Not by way of the notifier: it may be what is wrong."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any

from node.notify.acknowledgement import Acknowledgement
from node.notify.email_message import EmailTransport
from node.notify.webhook import WebhookTransport
from node.settings import EmailSection, Settings, WebhookSection

_HEADS = {"alarm": "ALARM", "over": "OVER", "digest": "Digest"}


class Messenger:
    """Sends one message to one channel of kind e-mail or webhook.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._acknowledgement = Acknowledgement(settings.data_dir, "")

    def alarm(self, channel: str, message: Mapping[str, Any]) -> str:
        """Tell a channel of an alarm (:meth:`Standing.message`), and return its acknowledgement in words.

        Raises
        ------
        NodeError
            It was not heard, or nobody knows.
        """
        head = _HEADS[message["kind"]]
        subject = f"[{message['node']}] {head} {message['alarm']} {message['subject']}".rstrip()
        lines = [message["words"], "", f"What it means and what to do: {message['page']}"]
        return self._send(channel, message, subject, lines)

    def digest(self, channel: str, message: Mapping[str, Any], lines: Sequence[str]) -> str:
        """Send the digest; raises as :meth:`alarm`."""
        return self._send(channel, {"kind": "digest", **message}, f"[{message['node']}] {lines[0]}", lines[1:])

    def _send(self, channel: str, message: Mapping[str, Any], subject: str, lines: Sequence[str]) -> str:
        section = self._settings.channel[channel]
        message_id = uuid.uuid4().hex[:20]
        match section:
            case WebhookSection():
                return WebhookTransport(section, self._acknowledgement).post(message_id, {"id": message_id, **message})
            case EmailSection():
                return EmailTransport(section, self._acknowledgement).hand_over(
                    _email(section, message_id, subject, lines)
                )
        raise AssertionError(f"channel {channel} is neither e-mail nor webhook")  # the settings have checked that


def _email(section: EmailSection, message_id: str, subject: str, lines: Sequence[str]) -> EmailMessage:
    message = EmailMessage()
    message["From"] = section.sender
    message["To"] = ", ".join(section.recipients)
    message["Subject"] = subject
    message["Date"] = formatdate(time.time())
    message["Message-ID"] = f"<{message_id}@{section.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join(lines) + "\n")
    return message
