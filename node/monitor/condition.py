"""What is wrong, as the monitor sees it: one name for each kind, the same in alarms, alert rules and docs/alerts.md."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PAGE = "docs/alerts.md"


class Alarm(StrEnum):
    """Kinds of alarms; each has a section of its name in docs/alerts.md."""

    PROCESS_SILENT = "process-silent"
    CANARY_LOST = "canary-lost"
    DISK_FULL = "disk-full"
    DISK_FILLING = "disk-filling"
    CERTIFICATE_EXPIRES = "certificate-expires"
    DATABASE_NOT_WRITABLE = "database-not-writable"


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is wrong now.

    Attributes
    ----------
    alarm : Alarm
    subject : str
        Which process, file or peer; empty where there is only one.
    words : str
        A sentence with figures. Never anything of a patient.
    """

    alarm: Alarm
    subject: str
    words: str

    @property
    def key(self) -> str:
        """What makes it the same condition later."""
        return f"{self.alarm}/{self.subject}"
