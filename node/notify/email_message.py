"""E-mail: one message to all recipients of a channel, or to none of them."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from node.dicom.passcodes import read_passcode
from node.dicom.tls import client_context
from node.errors import (
    NoResponse,
    NotificationRefused,
    PeerBusy,
    PeerNotTrusted,
    PeerUnreachable,
    TlsUnusable,
    UsersUnusable,
    WebNotAuthorised,
)
from node.notify import wording
from node.notify.acknowledgement import Acknowledgement
from node.notify.notification_rows import Notification
from node.settings import ClientTlsSection, EmailSection

_LONGEST_WORDS = 200


class EmailTransport:
    """Hands notifications to one mail server."""

    def __init__(self, section: EmailSection, acknowledgement: Acknowledgement) -> None:
        self._section = section
        self._acknowledgement = acknowledgement

    def send(self, notification: Notification) -> str:
        """Hand the message over, and return the server's words.

        The server takes it for every recipient or not at all: nobody is told while somebody is silently left out.

        Raises
        ------
        PeerUnreachable, PeerNotTrusted, WebNotAuthorised
            No connection, no TLS, or the server does not know us.
        PeerBusy
            A passing refusal (4yz, RFC 5321 4.2.1).
        NotificationRefused
            A refusal for good (5yz).
        NoResponse
            The connection was lost when the message was on its way.
        """
        return self.hand_over(self.compose(notification))

    def hand_over(self, message: EmailMessage) -> str:
        """Hand a message to the server for every recipient, and return its words. Raises as :meth:`send`."""
        with self._connected() as server:
            self._check(server.mail(self._section.sender), "the sender")
            for number, recipient in enumerate(self._section.recipients, start=1):
                self._check(server.rcpt(recipient), f"recipient {number} of {len(self._section.recipients)}")
            try:
                reply = server.data(message.as_bytes(policy=message.policy.clone(linesep="\r\n")))
            except smtplib.SMTPDataError as error:
                reply = (error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b"")
            except (smtplib.SMTPServerDisconnected, OSError) as error:
                raise NoResponse(f"{self._where}: the connection was lost ({type(error).__name__})") from error
            self._check(reply, "the message")
        return f"{reply[0]} {_text(reply[1])}"

    def compose(self, notification: Notification) -> EmailMessage:
        """The message; the same in each attempt, its name included."""
        content = notification.content
        lines = wording.sentences(content)
        message = EmailMessage()
        message["From"] = self._section.sender
        message["To"] = ", ".join(self._section.recipients)
        message["Subject"] = lines[0]
        message["Date"] = format_datetime(datetime.fromtimestamp(notification.created_at, UTC))
        message["Message-ID"] = f"<{notification.control_id}@{self._section.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        if content["priority"] == "stat":
            message["Importance"] = "high"
            message["X-Priority"] = "1"
        if notification.alert_id is not None:
            # One thread for everything about an alert.
            message["References"] = f"<alert-{notification.alert_id}@{self._section.sender.rpartition('@')[2]}>"
        message.set_content("\n".join([*lines[1:], "", *self._ending(notification)]) + "\n")
        return message

    def _ending(self, notification: Notification) -> list[str]:
        content = notification.content
        lines = [*wording.identity_lines(content.get("identity", {}))]
        lines.append(f"{content['node']}, alert {content['alert']}, run {content['job']}")
        if notification.alert_id is not None and content["event"] != "retraction":
            link = self._acknowledgement.link(notification.alert_id)
            token = self._acknowledgement.token(notification.alert_id)
            lines.append(f"Acknowledge: {link or f'ainode notifications ack {token}'}")
        return lines

    @property
    def _where(self) -> str:
        return f"{self._section.host}:{self._section.port}"

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        section = self._section
        try:
            server = self._open()
        except ssl.SSLError as error:
            raise PeerNotTrusted(f"{self._where}: no TLS connection ({_reason(error)})") from error
        except (smtplib.SMTPException, OSError) as error:
            raise PeerUnreachable(f"{self._where}: no connection ({type(error).__name__})") from error
        try:
            if server.sock is not None:
                server.sock.settimeout(section.response_timeout_seconds)
            yield server
        except smtplib.SMTPServerDisconnected as error:
            raise PeerUnreachable(f"{self._where}: the server ended the connection") from error
        except OSError as error:
            raise PeerUnreachable(f"{self._where}: the connection was lost ({type(error).__name__})") from error
        finally:
            try:
                server.quit()
            except (smtplib.SMTPException, OSError):
                server.close()  # whatever became of the message is known by now

    def _open(self) -> smtplib.SMTP:
        section = self._section
        if section.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                section.host, section.port, timeout=section.connect_timeout_seconds, context=self._context()
            )
        else:
            server = smtplib.SMTP(section.host, section.port, timeout=section.connect_timeout_seconds)
        try:
            server.ehlo_or_helo_if_needed()
            if section.security == "starttls":
                if not server.has_extn("starttls"):
                    raise PeerNotTrusted(f"{self._where}: the server offers no STARTTLS; nothing was sent")
                server.starttls(context=self._context())
                server.ehlo()
            if section.username and section.passcode_file is not None:
                self._sign_on(server)
        except BaseException:
            server.close()
            raise
        return server

    def _sign_on(self, server: smtplib.SMTP) -> None:
        assert self._section.passcode_file is not None  # the settings hold both or none
        try:
            server.login(self._section.username, read_passcode(self._section.passcode_file).decode("utf-8"))
        except UsersUnusable as error:
            raise WebNotAuthorised(error.message) from error
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError, UnicodeDecodeError) as error:
            raise WebNotAuthorised(f"{self._where}: the server refuses the sign-on ({type(error).__name__})") from error

    def _context(self) -> ssl.SSLContext:
        try:
            return client_context(self._section.tls or ClientTlsSection(), "tls")
        except TlsUnusable as error:
            raise PeerNotTrusted(f"{self._where}: {error.message}") from error

    def _check(self, reply: tuple[int, bytes], what: str) -> None:
        code, words = reply
        if 200 <= code < 300:
            return
        said = f"{self._where}: {what} was refused: {code} {_text(words)}"
        if 400 <= code < 500:
            raise PeerBusy(said)
        raise NotificationRefused(said)


def _text(words: bytes) -> str:
    return " ".join(words.decode("utf-8", "replace").split())[:_LONGEST_WORDS]


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return (error.reason or "TLS error").replace("_", " ").lower()
