"""``ainode check-config``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli import new_app
from node.dicom.files import check_files
from node.errors import ConfigError
from node.settings import ProfileSection, Settings, load
from node.settings.monitor import CANARY
from node.web.files import check_web_files

app = new_app()

_FIRST_IN_LIST = 1000
"""Scanners number their own series below this."""


@app.command()
def check_config(
    file: Annotated[Path, typer.Argument(metavar="F", help="node.toml")],
    units: Annotated[
        bool, typer.Option("--units", help="Print the systemd units it asks for, each with the address it listens on.")
    ] = False,
    model_user: Annotated[bool, typer.Option("--model-user", help="Print the user that model hosts run as.")] = False,
) -> None:
    """Check node.toml, routing.toml beside it, and that the models named there are installed; starts nothing."""
    settings = load(file)
    if model_user:
        typer.echo(settings.model_host.user)
        return
    if units:
        from node.units import wanted_units

        for name, address in wanted_units(settings).items():
            typer.echo(f"{name} {address}".rstrip())
        return
    _find_models(settings)
    ends = check_files(settings)
    check_web_files(settings)
    typer.echo(f"{file}: valid")
    tls = " and with TLS on " if settings.receive.plain else " with TLS on "
    plain = f" on {settings.receive.host}:{settings.receive.port}" if settings.receive.plain else ""
    secure = f"{tls}{settings.receive.host}:{settings.receive.tls.port}" if settings.receive.tls.enabled else ""
    typer.echo(f"  {settings.node.ae_title}{plain}{secure}, data in {settings.data_dir}")
    if ends is not None:
        typer.echo(f"  certificates: the first expires on {ends:%Y-%m-%d}")
    if settings.web.enabled:
        typer.echo(f"  console at {settings.web.address}")
    _explain_destinations(settings)
    for name, worklist in settings.worklist.items():
        every = f"every {worklist.interval_seconds:g} s"
        typer.echo(f"  worklist {name}: {worklist.ae_title} at {worklist.host}:{worklist.port}, {every}")
    _explain_remote(settings)
    for name, channel in settings.channel.items():
        typer.echo(f"  channel {name}: {channel.kind}, told about a study: {channel.identity}")
    for notify in settings.notify:
        chain = "".join(f", after {step.after_seconds:g} s {', '.join(step.channels)}" for step in notify.escalate)
        told = ", ".join([*notify.channels, *notify.destinations]) or "nobody"
        typer.echo(f"  notify {notify.name}: {told}{chain}")
    for rule in settings.rule:
        where = "nowhere (shadow)" if rule.shadow else ", ".join(rule.destinations) or "nowhere"
        typer.echo(f"  rule {rule.name}: {rule.model} → {where}")
    for prompt in settings.prompt:
        asked = ", ".join(prompt.objects)
        typer.echo(f"  prompt {prompt.name}: {asked} → {prompt.model} → {', '.join(prompt.destinations) or 'nowhere'}")
    if not settings.rule:
        typer.echo("  no rules: studies are filed and nothing runs")


def _explain_remote(settings: Settings) -> None:
    """Who outside may be asked.

    Raises
    ------
    KeyUnusable, PeerNotTrusted
        A file of an endpoint cannot be used.
    """
    remote = settings.remote
    if not remote.endpoint:
        return
    from node.remote.chat_client import ChatClient

    for name, endpoint in remote.endpoint.items():
        ChatClient(name, endpoint).check_files()
        budget = f"at most {endpoint.daily_calls} calls and {endpoint.daily_tokens} tokens a day"
        what = "words and pictures" if endpoint.pictures else "words only"
        state = "" if remote.enabled else "; OFF: remote.enabled is false"
        typer.echo(f"  remote {name}: {endpoint.model} at {endpoint.host}, {what}, {budget}{state}")


def _explain_destinations(settings: Settings) -> None:
    for name, destination in settings.destination.items():
        tls = " with TLS" if destination.tls is not None else ""
        typer.echo(f"  destination {name}: {destination.address}{tls}")
        if name != CANARY:
            _explain_profile(destination.profile, settings.profile_of(name))


def _explain_profile(name: str, profile: ProfileSection) -> None:
    """What an administrator should know about what a destination does not get."""
    if held := profile.kept_back:
        why = {
            "unknown": "nobody has said yet what this PACS does with them; see text_documents",
            "become_the_report": "this PACS would take them for the report",
        }[profile.text_documents]
        typer.echo(f"    profile {name}: not sent: {' and '.join(held)}; {why}")
    typer.echo(f"    profile {name}: at most {profile.maximum_series} series for the result of each rule")
    if profile.segmentation == "labelmap" and "measurements" in profile.objects:
        typer.echo(
            f"    profile {name}: measurements refer to label maps; readers older than the class (DCMTK 3.6.7) open no such "
            'report, segmentation = "binary" is for them'
        )
    if profile.series_number_base < _FIRST_IN_LIST:
        typer.echo(
            f"    profile {name}: series_number_base {profile.series_number_base} may put results first in the list"
        )


def _find_models(settings: Settings) -> None:
    """Look for the cards; whether files have their digests is `ainode models verify`'s question.

    Raises
    ------
    ConfigError, ModelNotFound
        A folder is missing; a model is not installed, or its card is not valid.
    """
    from models.errors import ModelNotFound
    from models.registry import Registry

    for folder in settings.models.folders:
        if not folder.is_dir():
            raise ConfigError(f"models.folders: {folder} is not a folder; correct or remove it")
    registry = Registry(settings.models.folders, threads=1)
    installed = {each.card.id for each in registry.list()}
    for rule in settings.rule:
        for key, name in (("model", rule.model), ("report_model", rule.report_model)):
            if name is not None and name not in installed:
                why = registry.problems.get(name, "it is in none of the folders of models")
                raise ModelNotFound(f"rule.{rule.name}.{key}: there is no usable model {name}: {why}")
    for prompt in settings.prompt:
        if prompt.model not in installed:
            why = registry.problems.get(prompt.model, "it is in none of the folders of models")
            raise ModelNotFound(f"prompt.{prompt.name}.model: there is no usable model {prompt.model}: {why}")
