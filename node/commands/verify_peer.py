"""``ainode verify-peer``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import new_app

if TYPE_CHECKING:
    from node.dicom.peer_trial import Trial
    from node.dicom.verify_peer import PeerReport

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
