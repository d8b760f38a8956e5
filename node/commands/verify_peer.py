"""``ainode verify-peer``."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import new_app

if TYPE_CHECKING:
    from node.dicom.peer_trial import Trial
    from node.dicom.verify_peer import PeerReport
    from node.dicomweb.peer_trial import WebTrial
    from node.settings import Settings

app = new_app()


@app.command()
def verify_peer(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="DEST", help="Name of a destination, or AE_TITLE@HOST:PORT.")],
    as_json: Annotated[bool, typer.Option("--json", help="Stable JSON.")] = False,
    test_object: Annotated[
        bool,
        typer.Option(
            "--test-object/--ask-only", help="Store a marked test object there, about no patient, or nothing."
        ),
    ] = True,
) -> None:
    """Find out what a destination accepts, what it does with an object, and how fast it is; and remember it.

    Exit code 1 when it refuses a kind of result, or commitment where the configuration asks for it.
    """
    from node.commands.peers import peer_of
    from node.delivery.peer_record import attempt, remember
    from node.delivery.proposed_profile import proposed_profile
    from node.dicom.commitment import COMMITMENT_SOP_CLASS
    from node.dicom.verify_peer import RESULT_CLASSES
    from node.dicom.verify_peer import verify_peer as ask
    from node.errors import NoPresentationContext

    settings = ctx.obj.settings()
    if destination in settings.web_source or (
        destination in settings.destination and settings.destination[destination].url
    ):
        _verify_service(settings, destination, as_json=as_json, test_object=test_object)
        return
    peer = peer_of(settings, destination)
    configured = settings.destination.get(destination)
    needed = {*RESULT_CLASSES, *([COMMITMENT_SOP_CLASS] if configured and configured.commitment else [])}
    report = ask(peer)
    trial = attempt(settings, peer, destination) if test_object else None
    profile = proposed_profile(report.storage, charset=trial.charset if trial else "")
    kept = remember(settings, destination, report, trial) if configured else False
    if as_json:
        typer.echo(json.dumps(_facts(report, trial, profile, kept=kept), indent=2, ensure_ascii=False))
    else:
        for line in (*_lines(str(peer), report), *(_trial_lines(trial) if trial else ()), *_profile_lines(profile)):
            typer.echo(line)
        typer.echo("kept for planning what it gets" if kept else "not kept: no configured destination with a database")
    refused = [each.name for each in report.contexts if not each.transfer_syntaxes and each.abstract_syntax in needed]
    if refused:
        raise NoPresentationContext(f"{peer} does not accept: {', '.join(refused)}")


def _verify_service(settings: Settings, name: str, *, as_json: bool, test_object: bool) -> None:
    """A DICOMweb service does not say what it takes; it shows it with an object."""
    from node.delivery.peer_record import attempt_web
    from node.dicom.archive_views import view_of, web_peer_of
    from node.errors import PeerRejectedObject

    peer = web_peer_of(settings, name)
    assert peer is not None
    started = time.monotonic()
    with view_of(settings, name) as view:
        view.studies_of_patient("AINODE^NOBODY", "")
    seconds = time.monotonic() - started
    trial = attempt_web(settings, peer) if test_object else None
    if as_json:
        facts = {"query_seconds": seconds, "trial": asdict(trial) if trial else None}
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{peer}: query answered in {seconds * 1000:.0f} ms")
        for line in _web_lines(trial) if trial else ():
            typer.echo(line)
    if trial is not None and not trial.good:
        raise PeerRejectedObject(f"{peer}: the test object was not stored and given back as it was")


def _web_lines(trial: WebTrial) -> list[str]:
    words = {None: "not found out", True: "yes", False: "NO"}
    lines = [
        f"test object stored: {words[trial.stored]}{_in(trial.store_seconds)}"
        f"{f' ({trial.store_note})' if trial.store_note else ''}",
        f"  found by query: {words[trial.found]}{_in(trial.found_seconds)}",
        f"  given back as it was: {words[trial.same]}{_in(trial.retrieve_seconds)}",
        f"  characters beyond ASCII: {trial.charset or 'not shown'}",
    ]
    if trial.stored and not trial.removed:
        lines.append("  removed: no, the service has no way to; delete the patient AINODE^TEST there by hand")
    elif trial.stored:
        lines.append("  removed: yes")
    return [*lines, *([f"  {trial.problem}"] if trial.problem else [])]


def _facts(report: PeerReport, trial: Trial | None, profile: dict[str, Any], *, kept: bool) -> dict[str, Any]:
    contexts = [
        {
            "name": each.name,
            "sop_class_uid": each.abstract_syntax,
            "transfer_syntax_uid": each.transfer_syntax,
            "transfer_syntax_uids": list(each.transfer_syntaxes),
        }
        for each in report.contexts
    ]
    return {
        "association_seconds": report.association_seconds,
        "echo_seconds": report.echo_seconds,
        "echo_status": report.echo_status,
        "contexts": contexts,
        "trial": asdict(trial) if trial else None,
        "proposed_profile": profile,
        "kept": kept,
    }


def _lines(peer: str, report: PeerReport) -> list[str]:
    from pydicom.uid import UID

    lines = [f"{peer}: association in {report.association_seconds * 1000:.0f} ms"]
    if report.echo_seconds is not None:
        lines.append(f"C-ECHO: status 0x{report.echo_status:04X} in {report.echo_seconds * 1000:.1f} ms")
    for each in report.contexts:
        syntaxes = ", ".join(UID(uid).name for uid in each.transfer_syntaxes)
        lines.append(f"  {'accepted' if syntaxes else 'REFUSED ':<8}  {each.name}{f': {syntaxes}' if syntaxes else ''}")
    return lines


def _trial_lines(trial: Trial) -> list[str]:
    words = {None: "not asked, it is not offered", True: "yes", False: "NO"}
    stored = "NO" if trial.store_status is None else f"status 0x{trial.store_status:04X}"
    lines = [
        f"test object stored: {stored}{_in(trial.store_seconds)}{f' ({trial.store_note})' if trial.store_note else ''}"
    ]
    lines.append(f"  found by query: {words[trial.found]}{_in(trial.found_seconds)}")
    lines.append(f"  characters beyond ASCII: {trial.charset or 'not shown'}")
    committed = words[trial.committed] if trial.commitment_way or trial.committed is not None else "no answer seen"
    lines.append(f"  committed: {committed} {trial.commitment_way}{_in(trial.commitment_seconds)}".rstrip())
    if trial.store_status is not None:
        lines.append("  removed: no, DICOM has no way to; delete the patient AINODE^TEST there by hand")
    return [*lines, *([f"  {trial.problem}"] if trial.problem else [])]


def _profile_lines(profile: dict[str, Any]) -> list[str]:
    return ["profile that fits:", *(f"  {key} = {json.dumps(value)}" for key, value in profile.items())]


def _in(seconds: float | None) -> str:
    return "" if seconds is None else f" in {seconds * 1000:.0f} ms"
