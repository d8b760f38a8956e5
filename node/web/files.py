"""Files the console needs at its start, tried out by ``ainode check-config``."""

from __future__ import annotations

import ssl
from datetime import datetime

from cryptography import x509

from node.errors import TlsUnusable, UsersUnusable
from node.settings import Settings


def check_web_files(settings: Settings) -> None:
    """Load certificate and key, and read the client's secret of the hospital's sign-on.

    Raises
    ------
    TlsUnusable, UsersUnusable
        Naming the file.
    """
    web = settings.web
    if web.tls is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(web.tls.certificate, web.tls.key)
        except (OSError, ssl.SSLError) as error:
            raise TlsUnusable(f"web.tls: {web.tls.certificate} and {web.tls.key} cannot be used: {error}") from error
    if web.oidc is not None and (file := web.oidc.client_secret_file) is not None:
        try:
            usable = bool(file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise UsersUnusable(f"web.oidc.client_secret_file: {file} cannot be read") from error
        if not usable:
            raise UsersUnusable(f"web.oidc.client_secret_file: {file} is empty")


def certificate_ends(settings: Settings) -> datetime | None:
    """When the console's own certificate expires; None where it has none.

    Raises
    ------
    TlsUnusable
        It cannot be read.
    """
    if settings.web.tls is None:
        return None
    file = settings.web.tls.certificate
    try:
        return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise TlsUnusable(f"web.tls.certificate: {file} cannot be read") from error
