"""What an operator has stopped, and the conditions by which jobs and deliveries wait for it.

The conditions stand in the statements that lease jobs and claim deliveries, so that no process has to be told and a
restart changes nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, or_, select

from node.archive.tables import deliveries, jobs, objects, pauses
from node.settings.prompts import SEPARATOR


class Scope(StrEnum):
    """What is paused."""

    MODEL = "model"
    RULE = "rule"
    DESTINATION = "destination"
    ALL = "all"


def find(connection: Connection, scope: Scope, name: str) -> Row[Any] | None:
    """The pause of exactly this scope."""
    chosen = (pauses.c.scope == str(scope)) & (pauses.c.name == name)
    return connection.execute(select(pauses).where(chosen)).one_or_none()


def active(connection: Connection) -> list[Row[Any]]:
    """Every pause, oldest first."""
    return list(connection.execute(select(pauses).order_by(pauses.c.since, pauses.c.scope, pauses.c.name)))


def job_is_paused() -> ColumnElement[bool]:
    """Condition on a statement over jobs. A paused destination stops no run."""
    return exists().where(or_(pauses.c.scope == str(Scope.ALL), _pause_names_run(jobs))).correlate(jobs)


def delivery_is_paused() -> ColumnElement[bool]:
    """Condition on a statement that joins deliveries and objects."""
    run = jobs.alias("paused_run")
    # Looked up in the innermost statement, so that nothing is joined where nothing is paused.
    by_run = exists().where(run.c.id == objects.c.job_id, _pause_names_run(run)).correlate(objects, pauses)
    by_name = and_(pauses.c.scope == str(Scope.DESTINATION), pauses.c.name == deliveries.c.destination)
    return exists().where(or_(pauses.c.scope == str(Scope.ALL), by_name, by_run)).correlate(deliveries, objects)


def run_matches(scope: Scope, name: str) -> ColumnElement[bool]:
    """Condition on jobs: they belong to a model or a rule; all of them for any other scope."""
    match scope:
        case Scope.MODEL:
            return or_(jobs.c.model_id == name, _report_model(jobs) == name)
        case Scope.RULE:
            return or_(jobs.c.rule == name, jobs.c.rule.startswith(f"{name}{SEPARATOR}", autoescape=True))
        case _:
            return jobs.c.id.is_not(None)


def _pause_names_run(run: Any) -> ColumnElement[bool]:
    return or_(
        and_(
            pauses.c.scope == str(Scope.RULE),
            # A request of a reader is run as prompt@request.
            or_(pauses.c.name == run.c.rule, pauses.c.name + SEPARATOR == _beginning(run)),
        ),
        and_(
            pauses.c.scope == str(Scope.MODEL),
            or_(pauses.c.name == run.c.model_id, pauses.c.name == _report_model(run)),
        ),
    )


def _beginning(run: Any) -> ColumnElement[str]:
    return func.substr(run.c.rule, 1, func.length(pauses.c.name) + len(SEPARATOR))


def _report_model(run: Any) -> ColumnElement[str]:
    model: ColumnElement[str] = run.c.specification["report_model"].as_string()
    return model
