"""Every table, once. The schema in a database is made by the migrations; a test holds both equal.

Times are seconds since the epoch (UTC) as float. JSON columns hold plain JSON. Identifiers that a peer chose
(UIDs, AE titles) are stored as received, checked against PS3.5 before.
"""

from __future__ import annotations

from node.archive.tables.accounts import api_tokens, user_sessions, users
from node.archive.tables.expected import archive_studies, arrival_events, commitment_requests, evidence, orders, rhythms
from node.archive.tables.leaving import capabilities, commitments, deliveries
from node.archive.tables.performed import workitems
from node.archive.tables.received import associations, instances, priors, retrievals, studies
from node.archive.tables.record import BY_PEOPLE, ledger, ledger_head
from node.archive.tables.ris import hl7_messages, patient_changes, signed_reports
from node.archive.tables.schema import REVISION, metadata
from node.archive.tables.similar import similar_embeddings
from node.archive.tables.telling import alerts, notifications
from node.archive.tables.texts import corpus_reports, remote_usage
from node.archive.tables.watching import canary_runs, ledger_readers
from node.archive.tables.work import assessments, jobs, model_approvals, objects, pauses

__all__ = [
    "BY_PEOPLE",
    "REVISION",
    "alerts",
    "api_tokens",
    "archive_studies",
    "arrival_events",
    "assessments",
    "associations",
    "canary_runs",
    "capabilities",
    "commitment_requests",
    "commitments",
    "corpus_reports",
    "deliveries",
    "evidence",
    "hl7_messages",
    "instances",
    "jobs",
    "ledger",
    "ledger_head",
    "ledger_readers",
    "metadata",
    "model_approvals",
    "notifications",
    "objects",
    "orders",
    "patient_changes",
    "pauses",
    "priors",
    "remote_usage",
    "retrievals",
    "rhythms",
    "signed_reports",
    "similar_embeddings",
    "studies",
    "user_sessions",
    "users",
    "workitems",
]
