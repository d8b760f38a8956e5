"""New names for old ones: the same for the same, over every object and study, and not to be guessed without the key."""

from __future__ import annotations

import hashlib
import hmac
import uuid

_REGISTERED = "1.2.840.10008."


class Pseudonyms:
    """Makes UIDs and patient identifiers.

    Parameters
    ----------
    key : bytes
        The site's, 32 bytes. Who has it can tell which study an export comes from; who has it not cannot.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def uid(self, value: str) -> str:
        """Another UID in the place of one (PS3.5 B.2 form); those of the standard itself stay what they are."""
        if not value or value.startswith(_REGISTERED):
            return value
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', value)[:16], version=5).int}"

    def patient(self, patient_id: str, issuer: str, name: str, birth_date: str) -> str:
        """An identifier of a patient: by ID and issuer, without an ID by name and birth date."""
        known = (patient_id, issuer) if patient_id else (name, birth_date)
        return f"ANON-{self._digest('patient', *known).hex()[:16].upper()}"

    def _digest(self, kind: str, *parts: str) -> bytes:
        return hmac.new(self._key, "\0".join([kind, *parts]).encode("utf-8"), hashlib.sha256).digest()
