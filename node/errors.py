"""Errors of the node: configuration, store, spool, peers, jobs, delivery."""

from __future__ import annotations

from models.errors import NodeError, Transient


class ConfigError(NodeError):
    code = "CFG-001"
    summary = "The configuration is not valid."
    remedy = "Correct the file and key that the message names; `ainode check-config FILE` checks without starting."


class UsageError(NodeError):
    code = "CFG-002"
    summary = "The command cannot be carried out as given."
    remedy = "See the message and `ainode COMMAND --help`."


class NameConflict(NodeError):
    code = "CFG-003"
    summary = "Another installed distribution owns a package name of this product."
    remedy = "Install the node into an environment of its own."


class TlsUnusable(ConfigError):
    code = "CFG-004"
    summary = "A certificate, key or authority file for TLS cannot be used."
    remedy = (
        "Correct or renew the file that the message names (`openssl x509 -in FILE -noout -subject -dates`); "
        "`ainode check-config FILE` tries it out. See “TLS” in the operator manual."
    )


class UsersUnusable(ConfigError):
    code = "CFG-005"
    summary = "The file of users or of a passcode cannot be used."
    remedy = "Correct the file that the message names; `ainode passcode NAME` makes a line for the file of users."


class StoreError(NodeError):
    """The database refused."""


class StoreUnavailable(Transient, StoreError):
    code = "STO-001"
    summary = "The database is locked or unreachable."
    remedy = "Nothing is lost: receivers answer A700 until it is back. Check the database server or disk."


class StoreSchemaMismatch(StoreError):
    code = "STO-002"
    summary = "The database schema is not the one this version needs."
    remedy = "Run `ainode db upgrade` with the node stopped, or start `ainode serve`, which migrates."


class StoreOnNetworkFileSystem(StoreError):
    code = "STO-003"
    summary = "An SQLite database must not lie on a network file system."
    remedy = "Move data_dir to a local disk, or use PostgreSQL."


class LedgerBroken(StoreError):
    code = "STO-004"
    summary = "The ledger's chain of hashes is broken."
    remedy = "Keep the database as it is, restore a copy beside it and compare; somebody changed or lost rows."


class StoreMisused(StoreError):
    code = "STO-005"
    summary = "The database connection was used in a way that could corrupt it."
    remedy = "Report this with the log: it is a defect of the node. The process is restarted and nothing is lost."


class FrozenObjectDiffers(StoreError):
    code = "STO-006"
    summary = "An object with this UID was frozen before with other bytes."
    remedy = "The first object stays as it is. Run the study again as a new run; report this if it recurs."


class NotStored(StoreError):
    code = "STO-007"
    summary = "Nothing is stored under the given number or UID."
    remedy = "See `ainode jobs`, `ainode deliveries` or `ainode studies` for what there is."


class BackupUnusable(StoreError):
    code = "STO-008"
    summary = "A copy of the database cannot be made or put back."
    remedy = "See the message and “Backup” in docs/install.md; a copy that is damaged or newer changes nothing."


class AccountError(NodeError):
    """Somebody may not do what he asks the console for."""


class SignInRefused(AccountError):
    code = "ACC-001"
    summary = "User name, passcode or code is wrong, or the account is disabled or locked."
    remedy = "Try again; an administrator sees with `ainode user list` whether the account is disabled or locked."


class NotPermitted(AccountError):
    code = "ACC-002"
    summary = "This account's role does not allow that."
    remedy = "Ask an administrator for it, or for another role (`ainode user role NAME ROLE`)."


class TooManyAttempts(AccountError):
    code = "ACC-003"
    summary = "Too many attempts to sign in failed."
    remedy = "Wait some minutes. An administrator unlocks an account with `ainode user passcode NAME`."


class AccountUnusable(AccountError):
    code = "ACC-004"
    summary = "An account or token cannot be made or changed as asked."
    remedy = "Correct what the message names; `ainode user list` shows what there is."


class SignOnFailed(AccountError):
    code = "ACC-005"
    summary = "The hospital's sign-on did not say, or not credibly, who somebody is."
    remedy = "Try again. Check [web.oidc] and the clocks of both machines; a local administrator can always sign in."


class RequestForged(AccountError):
    code = "ACC-006"
    summary = "The request did not come from a page of this console, or the page is too old."
    remedy = "Load the page again and press the button there."


class SpoolError(NodeError):
    """Files could not be stored or read."""


class SpoolFull(Transient, SpoolError):
    code = "SPO-001"
    summary = "Less disk space is left than the reserve."
    remedy = "Free space on the spool's disk; senders get A700 meanwhile and the node recovers by itself."


class SpoolDamaged(SpoolError):
    code = "SPO-002"
    summary = "A stored file is missing or differs from its digest."
    remedy = "Send the study again from the archive; check the disk."


class ObjectRejected(SpoolError):
    code = "SPO-003"
    summary = "The data set does not match the C-STORE request."
    remedy = "The sender is faulty: UIDs in command and data set must agree (PS3.7 9.1.1)."


class PeerError(NodeError):
    """Another DICOM application failed."""


class PeerUnreachable(Transient, PeerError):
    code = "PEER-001"
    summary = "The destination cannot be reached or rejected the association."
    remedy = "Check address, port, AE titles on both sides with `ainode verify-peer DEST`; sending is retried."


class PeerRejectedObject(PeerError):
    code = "PEER-002"
    summary = "The destination refused an object for good."
    remedy = "See status and comment; correct the destination's configuration, then `ainode replay DELIVERY`."


class PeerBusy(Transient, PeerError):
    code = "PEER-003"
    summary = "The destination is out of resources (A7xx) or reported a passing failure."
    remedy = "No action: sending is retried. Check the destination's disk if it lasts."


class NoPresentationContext(PeerError):
    code = "PEER-004"
    summary = "The destination accepts no presentation context for the object."
    remedy = (
        "Have the destination accept these classes, or choose a profile without them; where only Storage Commitment is "
        "refused, set commitment = false."
    )


class NoResponse(Transient, PeerError):
    code = "PEER-005"
    summary = "No status came back: the object may or may not have been stored."
    remedy = "No action: the destination is asked whether it has it; if not, the same bytes are sent again with the same UID."


class CommitmentFailed(PeerError):
    code = "PEER-006"
    summary = "The destination did not commit to an object."
    remedy = "Check the archive for the object named; `ainode replay DELIVERY` sends and asks again."


class PeerNotTrusted(PeerUnreachable):
    code = "PEER-007"
    summary = "No TLS connection to the destination: a certificate was not accepted, or it speaks no TLS."
    remedy = (
        "Check ca, certificate, key and server_name of [destination.NAME.tls] and the certificate of the destination "
        "with `ainode verify-peer NAME`; sending is retried."
    )


class WebNotAuthorised(PeerUnreachable):
    code = "WEB-001"
    summary = "A web service does not accept who this node says it is."
    remedy = "Check username and passcode_file, or the oauth table and its secret file, with the administrator of the service."


class WebAnswerUnusable(PeerError):
    code = "WEB-002"
    summary = "The answer of a web service is not what the standard says."
    remedy = "Check that the url is that of the service itself; report the message to its administrator."


class NotificationError(NodeError):
    """Somebody could not be told."""


class NotificationRefused(NotificationError):
    code = "NOT-001"
    summary = "A channel refused a notification for good."
    remedy = (
        "The message has the channel's own words. Correct what it names, then `ainode notifications replay NUMBER`."
    )


class NotificationUnusable(NotificationError):
    code = "NOT-002"
    summary = "A notification cannot be put into the form its channel needs."
    remedy = "The message names what is missing in the images or the configuration; then `ainode notifications replay NUMBER`."


class TranscodingFailed(PeerError):
    code = "PEER-008"
    summary = "The object cannot be sent in any transfer syntax that the destination accepts."
    remedy = "Have the destination accept explicit VR little endian for this SOP class, then `ainode replay DELIVERY`."


class Hl7Error(NodeError):
    """An HL7 v2 message of another system cannot be used.

    Parameters
    ----------
    condition : str
        Error condition of table 0357, for the acknowledgement.
    """

    def __init__(self, message: str, *, condition: str = "", **detail: object) -> None:
        super().__init__(message, **detail)
        self.condition = condition


class Hl7Rejected(Hl7Error):
    code = "HL7-001"
    summary = "An HL7 message cannot be read; it was answered AR."
    remedy = "Have the sender correct version, character set (MSH-18), type or length of its messages."


class Hl7Unusable(Hl7Error):
    code = "HL7-002"
    summary = "An HL7 message lacks what it is about; it was answered AE."
    remedy = "Have the sender fill the field that the message names, or set hl7.accession_fields to where it stands."


class JobError(NodeError):
    """A job ended badly."""


class DeadlineExceeded(JobError):
    code = "JOB-001"
    summary = "The run exceeded its time limit and was stopped."
    remedy = "Raise deadline_seconds of rule or card if the study is large; else report to the model's supplier."


class ChildDied(Transient, JobError):
    code = "JOB-002"
    summary = "The model host died during the run."
    remedy = "No action: the run is tried again until its attempts are used up. See the system journal."


class AttemptsExhausted(JobError):
    code = "JOB-003"
    summary = "The run failed as often as allowed and is dead."
    remedy = "See `ainode why`; after the cause is removed, `ainode retry JOB`."


class StudyHeld(JobError):
    code = "JOB-004"
    summary = "The study is held: its images belong to two patients."
    remedy = "Correct the identity at the modality or PACS, then `ainode release STUDY`."


class LeaseLost(JobError):
    code = "JOB-005"
    summary = "Another dispatcher took the job over."
    remedy = "No action: its result counts, this one was discarded."


class NodeNotRunning(JobError):
    code = "JOB-006"
    summary = "No running node answers."
    remedy = "Start it with `ainode serve`, or name its configuration with --config."


class HostUntrusted(JobError):
    code = "JOB-007"
    summary = "A model host answered with something it may not."
    remedy = (
        "Nothing of its answer was used. Find out which model or image makes it do so (`ainode why`), and report it."
    )


class UnexpectedFailure(JobError):
    code = "JOB-999"
    summary = "The run failed in a way nobody foresaw."
    remedy = "Report this with the job's number and the log: it is a defect of the node."


class MonitorError(NodeError):
    """The node watches itself, and something is wrong."""


class CanaryLost(MonitorError):
    code = "MON-001"
    summary = "The canary's phantom study did not come back as a committed result."
    remedy = "See docs/alerts.md, “canary-lost”: the stage in the message names the process to look at first."


class ProcessSilent(MonitorError):
    code = "MON-002"
    summary = "A process of the node gives no sign of life."
    remedy = "See docs/alerts.md, “process-silent”: look at its last lines in the log, then restart that process."


class Misconfigured(MonitorError):
    code = "MON-003"
    summary = "The installation is not as it should be."
    remedy = "The message names what and where; see docs/alerts.md, “installation”."
