"""Every table, once. The schema in a database is made by the migrations; a test holds both equal.

Times are seconds since the epoch (UTC) as float. JSON columns hold plain JSON. Identifiers that a peer chose
(UIDs, AE titles) are stored as received, checked against PS3.5 before.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

REVISION = "0012"
"""Migration these tables correspond to; ``ainode serve`` and ``ainode db upgrade`` bring a database to it."""

# SQLite numbers rows by itself only in a column that is exactly INTEGER, and uses the number of a deleted row again
# unless told AUTOINCREMENT.
_Serial = BigInteger().with_variant(Integer, "sqlite")

associations = Table(
    "associations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("ending", String(16)),  # released, aborted, lost
    Column("instances", Integer, nullable=False, default=0),
)

studies = Table(
    "studies",
    metadata,
    Column("study_uid", String(64), primary_key=True),
    Column("state", String(16), nullable=False, default="waiting"),  # waiting, provisional, complete
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("evaluated_at", Float, nullable=False, default=0.0),
    Column("due_at", Float),  # when arrival wants to look again; null: only on news
    Column("arrival", JSON, nullable=False, default=dict),  # arrival.State, serialised
    Column("held_reason", Text),
    Column("released_at", Float),
    Column("corrected_at", Float),  # last time an image of it got another patient, order or study
    Column("patient_id", Text, nullable=False, default=""),
    Column("accession_number", Text, nullable=False, default=""),
    Index(None, "due_at"),
    Index(None, "accession_number"),
    Index(None, "last_at"),
)

instances = Table(
    "instances",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of the data-set bytes as received
    Column("size", BigInteger, nullable=False),
    Column("path", Text, nullable=False),  # relative to the spool
    Column("received_at", Float, nullable=False),
    Column("association_id", String(36)),
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("called_ae_title", String(16), nullable=False, default=""),
    Column("ours", Boolean, nullable=False, default=False),  # produced by this node: filed, nothing run
    # Somebody edited an object of this node: its Contributing Equipment names us, its General Equipment does not.
    Column("derived", Boolean, nullable=False, default=False, server_default=false()),
    Column("modality", String(16), nullable=False, default=""),
    Column("patient_id", Text, nullable=False, default=""),
    Column("issuer_of_patient_id", Text, nullable=False, default=""),
    Column("patient_name", Text, nullable=False, default=""),
    Column("patient_birth_date", Text, nullable=False, default=""),
    Column("accession_number", Text, nullable=False, default=""),
    Column("headers", JSON, nullable=False, default=dict),  # what routing matches on; see node/archive/headers.py
    # The copy that counts; a copy that says something else about patient, order or study takes its place.
    Column("active", Boolean, nullable=False, default=True, server_default=false()),
    Column("corrected_at", Float),  # when it took the place of another copy
    Column("superseded_at", Float),  # when another copy took its place
    UniqueConstraint("sop_instance_uid", "digest"),
    Index(None, "study_uid", "id"),
    Index(None, "series_uid"),
    Index(None, "association_id"),
    Index(None, "patient_id"),
    sqlite_autoincrement=True,
)

# Whatever receivers do at the same time: of one SOP Instance UID one copy counts, in one study.
Index(
    "uq_instances_active",
    instances.c.sop_instance_uid,
    unique=True,
    sqlite_where=instances.c.active == true(),
    postgresql_where=instances.c.active == true(),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("model_id", String(128), nullable=False),
    Column("input_key", String(64), nullable=False),  # SHA-256 over the study's instances as given to the job
    Column("run", Integer, nullable=False, default=1),
    Column("priority", Integer, nullable=False),  # node.jobs.queue.Priority: 0 stat … 3 off-peak
    Column("state", String(16), nullable=False),  # queued, running, done, failed, dead, cancelled
    Column("attempts", Integer, nullable=False, default=0),
    Column("maximum_attempts", Integer, nullable=False),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("lease_owner", String(64)),
    Column("lease_until", Float),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("shadow", Boolean, nullable=False, default=False),
    Column("specification", JSON, nullable=False),  # node.jobs.specification.JobSpec without what is looked up at start
    Column("result", JSON),  # summary of the typed result
    Column("error_code", String(16)),
    Column("message", Text),
    Column("superseded_at", Float),  # an image it took was corrected: nothing of it leaves any more
    Column("kind", String(16), nullable=False, default="run", server_default="run"),  # node.jobs.queue.JobKind
    Column("parent_id", BigInteger),  # the run whose result it writes anew, or takes back
    # Queued before its study was complete; a run that takes more supersedes it.
    Column("provisional", Boolean, nullable=False, default=False, server_default=false()),
    UniqueConstraint("study_uid", "rule", "input_key", "run"),
    Index(None, "state", "priority", "id"),
    sqlite_autoincrement=True,
)

objects = Table(
    "objects",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("job_id", _Serial, ForeignKey("jobs.id"), nullable=False),
    Column("role", String(32), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("path", Text, nullable=False),  # relative to the outbox folder
    Column("digest", String(64), nullable=False),  # SHA-256 of the whole file
    Column("size", BigInteger, nullable=False),
    Column("frozen_at", Float, nullable=False),
    Column("removed_at", Float),  # when retention removed the local copy; every destination was proven to have it
    Index(None, "job_id"),
    Index(None, "study_uid"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", String(64), ForeignKey("objects.sop_instance_uid"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # node.delivery.outbox.DeliveryState
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("status", Integer),  # last DIMSE status
    Column("message", Text),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("proven_at", Float),
    Column("transaction_uid", String(64)),
    Column("outdated", String(16)),  # the destination has, or may have, an old identity: open, settled
    # An attempt ended without an answer: the destination is asked whether it has the object before it is sent again.
    Column("in_doubt", Boolean, nullable=False, default=False, server_default=false()),
    Column("proof", String(16)),  # node.delivery.delivery_states.Proven; null: none yet
    Column("proof_asked", Integer, nullable=False, default=0, server_default="0"),  # commitments nobody answered
    Column("looked", Integer, nullable=False, default=0, server_default="0"),  # queries that did not find it
    Column("ask_at", Float, nullable=False, default=0.0, server_default="0"),  # when to ask for proof next
    Column("sent_syntax_uid", String(64)),  # transfer syntax it was sent in, where not the frozen one
    Column("replaced_by", BigInteger),  # the job whose set took its place at this destination
    UniqueConstraint("sop_instance_uid", "destination"),
    Index(None, "destination", "state", "not_before"),
    Index(None, "transaction_uid"),
    sqlite_autoincrement=True,
)

commitments = Table(
    "commitments",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("destination", String(64), nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("answered_at", Float),
    Column("outcome", String(16)),  # committed, failed, expired
)

# What somebody is told about: one for each study, routing rule and notify rule, however many runs say it.
alerts = Table(
    "alerts",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False),
    Column("rule", String(64), nullable=False),
    Column("notify", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # node.notify.states.AlertState
    Column("job_id", _Serial, ForeignKey("jobs.id"), nullable=False),  # the latest run that says it
    Column("facts", JSON, nullable=False),  # node.notify.facts.ResultFacts
    Column("level", Integer, nullable=False, default=0),  # steps of the escalation chain taken
    Column("escalate_at", Float),
    Column("opened_at", Float, nullable=False),
    Column("acknowledged_at", Float),
    Column("acknowledged_by", String(128)),
    UniqueConstraint("study_uid", "rule", "notify"),
    Index(None, "state", "escalate_at"),
    sqlite_autoincrement=True,
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("key", String(64), nullable=False, unique=True),  # what makes it the same notification
    Column("control_id", String(20), nullable=False, unique=True),  # its name on the wire, the same in each attempt
    Column("alert_id", _Serial, ForeignKey("alerts.id")),  # null: availability of instances
    Column("job_id", _Serial, ForeignKey("jobs.id"), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("channel", String(80), nullable=False),
    Column("event", String(16), nullable=False),  # node.notify.states.Event
    Column("content", JSON, nullable=False),  # what is said, frozen
    Column("digest", String(64), nullable=False),  # SHA-256 over what matters of the content
    Column("state", String(16), nullable=False),  # node.notify.states.NotificationState
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("message", Text),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("outdated", Boolean, nullable=False, default=False),  # it carries an identity that was corrected since
    Index(None, "channel", "state", "not_before"),
    Index(None, "alert_id"),
    Index(None, "job_id"),
    sqlite_autoincrement=True,
)

# What an operator has stopped; a row goes when it is resumed, the ledger keeps both.
pauses = Table(
    "pauses",
    metadata,
    Column("scope", String(16), primary_key=True),  # node.archive.pauses.Scope: model, rule, destination, all
    Column("name", String(128), primary_key=True),  # empty for "all"
    Column("reason", Text, nullable=False),
    Column("by", String(64), nullable=False),
    Column("since", Float, nullable=False),
)

# What a radiologist, or the archive for one, made of an object of ours: a rejection note, an edited copy, a verified report.
assessments = Table(
    "assessments",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False),  # node.assessments.AssessmentKind
    Column("sop_instance_uid", String(64), ForeignKey("objects.sop_instance_uid"), nullable=False),
    Column("source_uid", String(64), nullable=False),  # SOP Instance UID of what said so
    Column("source_path", Text, nullable=False),  # relative to the spool
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("reason", String(64), nullable=False, default=""),  # coded: "113001 DCM"
    UniqueConstraint("sop_instance_uid", "source_uid", "kind"),
    sqlite_autoincrement=True,
)

# What a destination said it takes when it was asked last: {"storage": {SOP Class UID: [Transfer Syntax UID, …]},
# "charset": …, "refused": [SOP Class UID, …]}.
capabilities = Table(
    "capabilities",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("table", JSON, nullable=False),
)

# One row for each approval; the one that is not revoked counts.
model_approvals = Table(
    "model_approvals",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("model_id", String(128), nullable=False),
    Column("version", String(64), nullable=False),
    Column("digest", String(64), nullable=False),  # Model.digest: card and every pinned file
    Column("approved_by", String(128), nullable=False),
    Column("approved_at", Float, nullable=False),
    Column("licence", Text, nullable=False),  # as accepted
    Column("revoked_at", Float),
    Column("revoked_by", String(128)),
    Index(None, "model_id"),
    sqlite_autoincrement=True,
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", String(48), nullable=False),
    Column("study_uid", String(64)),
    Column("job_id", BigInteger),
    Column("sop_instance_uid", String(64)),
    Column("detail", JSON, nullable=False, default=dict),
    Column("sequence", BigInteger, unique=True),  # set by the sealer, without gaps
    Column("seal", String(64)),  # SHA-256(previous seal, this row); set by the sealer
    Index(None, "study_uid", "id"),
    Index(None, "job_id"),
    Index(None, "sop_instance_uid"),
    sqlite_autoincrement=True,
)

# One row: what the sealer wrote last. Rows cut off the end of the ledger leave an unbroken chain; this row misses them.
ledger_head = Table(
    "ledger_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("seal", String(64), nullable=False),
)

# What others say belongs to a study: node/archive/evidence.py.
evidence = Table(
    "evidence",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("source", String(16), nullable=False),  # name of node.arrival.Source
    Column("reference", String(64), nullable=False),  # UID of step, notification or transaction; name of an archive
    Column("study_uid", String(64), nullable=False),  # empty where it names none
    Column("status", String(16), nullable=False, default=""),  # of a performed step
    Column("named", JSON, nullable=False, default=dict),  # series UID: SOP Instance UIDs, or a number of instances
    Column("calling_ae_title", String(16), nullable=False, default=""),
    Column("accession_number", Text, nullable=False, default=""),
    Column("at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("source", "reference", "study_uid"),
    Index(None, "study_uid"),
    sqlite_autoincrement=True,
)

# Every event that arrival took into account, so that a replay decides the same: node/archive/history.py.
arrival_events = Table(
    "arrival_events",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("seconds", Float, nullable=False),  # monotonic
    Column("kind", String(32), nullable=False),
    Column("content", JSON, nullable=False, default=dict),
    Index(None, "study_uid", "id"),
    Index(None, "at"),
    sqlite_autoincrement=True,
)

# How senders pause: one row for each association that brought images of a study.
rhythms = Table(
    "rhythms",
    metadata,
    Column("association_id", String(36), primary_key=True),
    Column("study_uid", String(64), primary_key=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("within_seconds", Float, nullable=False),  # longest gap between two images of it
    Column("after_seconds", Float, nullable=False),  # from its end to the study's next image; 0: there was none
    Column("at", Float, nullable=False),
    Index(None, "calling_ae_title", "modality", "at"),
)

# Entries of the worklist: studies that are expected. node/archive/orders.py.
orders = Table(
    "orders",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("source", String(64), nullable=False),  # name of the worklist
    Column("entry_key", String(64), nullable=False),  # SHA-256 over what names the scheduled step
    Column("study_uid", String(64), nullable=False, default=""),
    Column("accession_number", Text, nullable=False, default=""),
    Column("patient_id", Text, nullable=False, default=""),
    Column("modality", String(16), nullable=False, default=""),
    Column("starts_at", Float),  # scheduled, seconds since the epoch
    Column("content", JSON, nullable=False),  # node.orders.Order
    Column("first_seen_at", Float, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    Column("gone_at", Float),  # since when the worklist does not name it any more
    Column("priors", JSON),  # what became of fetching earlier studies; null: not begun
    UniqueConstraint("source", "entry_key"),
    Index(None, "study_uid"),
    Index(None, "accession_number"),
    Index(None, "starts_at"),
    sqlite_autoincrement=True,
)

# Earlier studies' instances, in a space of their own: nothing runs on them. node/archive/priors.py.
priors = Table(
    "priors",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("sop_class_uid", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("patient_id", Text, nullable=False, default=""),
    Column("issuer_of_patient_id", Text, nullable=False, default=""),
    Column("modality", String(16), nullable=False, default=""),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("path", Text, nullable=False),  # relative to the folder of priors
    Column("received_at", Float, nullable=False),
    Column("headers", JSON, nullable=False, default=dict),
    Index(None, "study_uid"),
    Index(None, "patient_id"),
    Index(None, "received_at"),
)

# C-MOVE and C-GET of this node: what comes for them is no study to run on.
retrievals = Table(
    "retrievals",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False),  # the study retrieved
    Column("series_uid", String(64), nullable=False, default=""),  # empty: all of it
    Column("peer", String(64), nullable=False),
    Column("method", String(8), nullable=False),  # move, get
    Column("order_id", BigInteger),
    Column("begun_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("completed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("message", Text),
    Index(None, "study_uid"),
    sqlite_autoincrement=True,
)

# Storage Commitment asked of this node, where it answers.
commitment_requests = Table(
    "commitment_requests",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("named", JSON, nullable=False),  # [SOP class UID, SOP Instance UID]
    Column("requested_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("answered_at", Float),
    Column("committed", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("message", Text),
)

# Studies as archives list them: what was seen, and what is to be fetched. node/archive/archive_studies.py.
archive_studies = Table(
    "archive_studies",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("archive", String(64), nullable=False),  # name of the destination
    Column("study_uid", String(64), nullable=False),
    Column("accession_number", Text, nullable=False, default=""),
    Column("starts_at", Float),  # Study Date and Time, seconds since the epoch
    Column("instances", Integer),  # as listed last, results included
    Column("seen_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),  # since when the archive has had so many
    Column("compared", Integer),  # the number of instances at which it was last held against what is here
    Column("finding", String(16), nullable=False, default=""),  # node.listed.Finding
    Column("state", String(16), nullable=False, default=""),  # empty, waiting, fetching, done, failed
    Column("purpose", String(16), nullable=False, default=""),  # reconcile, watch, backfill
    Column("method", String(8), nullable=False, default="auto"),
    Column("priority", Integer, nullable=False, default=2),  # node.jobs.queue.Priority
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("claimed_at", Float),
    Column("message", Text),
    UniqueConstraint("archive", "study_uid"),
    Index(None, "state", "priority", "id"),
    Index(None, "study_uid"),
    Index(None, "accession_number"),
    sqlite_autoincrement=True,
)

# HL7 v2 messages that were accepted, so that one sent again does nothing twice. node/archive/hl7_messages.py.
hl7_messages = Table(
    "hl7_messages",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("sender", Text, nullable=False),  # MSH-3 and MSH-4
    Column("control_id", Text, nullable=False),  # MSH-10
    Column("digest", String(64), nullable=False),  # SHA-256 of the message
    Column("kind", String(16), nullable=False),  # MSH-9, as ADT^A40
    Column("received_at", Float, nullable=False),
    UniqueConstraint("sender", "control_id", "digest"),
    Index(None, "received_at"),
    sqlite_autoincrement=True,
)

# What HL7 v2 says of patients: merged into another one, or other demographics. node/archive/patient_changes.py.
patient_changes = Table(
    "patient_changes",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),  # merge, update
    Column("patient_id", Text, nullable=False),  # as the images have it: of a merge the one that is given up
    Column("issuer", Text, nullable=False, default=""),
    Column("to_patient_id", Text, nullable=False, default=""),  # of a merge the one that stays
    Column("content", JSON, nullable=False),  # attributes that hold now, by keyword
    Column("source", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index(None, "patient_id", "id"),
    Index(None, "to_patient_id"),
    sqlite_autoincrement=True,
)

# Reports that were signed: what comes later comes too late for them. node/archive/signed_reports.py.
signed_reports = Table(
    "signed_reports",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("accession_number", Text, nullable=False),
    Column("study_uid", String(64), nullable=False, default=""),
    Column("signed_at", Float, nullable=False),
    Column("source", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    UniqueConstraint("accession_number", "study_uid"),
    Index(None, "study_uid"),
    sqlite_autoincrement=True,
)
