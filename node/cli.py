"""The command line. Commands are loaded when they are called, so that `ainode status` costs what it needs and no more."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from models.errors import NodeError
from node.errors import UsageError
from node.process import collector_at_rest

if TYPE_CHECKING:
    from node.settings import Settings

CONFIG_VARIABLE = "AINODE_CONFIG"

# Command → module below node.commands, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve", "Run the node: every process, watched, until SIGTERM."),
    "run": ("run", "Run one process of the node (serve does this for you)."),
    "check-config": ("check_config", "Check node.toml and routing.toml without starting anything."),
    "db": ("db", "Upgrade, back up and restore the database."),
    "process": ("process", "Analyse DICOM files offline: files in, result objects out, no network."),
    "send": ("send", "Send DICOM files to a destination."),
    "verify-peer": ("verify_peer", "Find out what a destination accepts and does with an object."),
    "pacs": ("pacs", "Run a small test PACS: store, query, storage commitment."),
    "status": ("status", "Ask the running node how it is."),
    "jobs": ("jobs", "List runs."),
    "deliveries": ("deliveries", "List what was sent where, and what is proven."),
    "notifications": ("notifications", "Who was told what: list, acknowledge, send again, explain."),
    "studies": ("studies", "List studies."),
    "worklist": ("worklist", "List what is expected, and what the node intends for each entry."),
    "reconcile": ("reconcile", "Hold what the archive has against what is here and answered; fetch what is missing."),
    "backfill": ("backfill", "Fetch studies of a time, or earlier studies of what is here, at the archive's pace."),
    "discrepancies": ("discrepancies", "List results that came after the report was signed."),
    "why": ("why", "Tell the story of a study, from first byte to commitment."),
    "similar": ("similar", "Studies of this hospital that a model finds alike: list, forget."),
    "retry": ("retry", "Run a failed or dead job again."),
    "cancel": ("cancel", "Cancel a queued or running job."),
    "replay": ("replay", "Send deliveries again, with the same bytes."),
    "pause": ("pause", "Stop a model, a rule, a destination or everything; receiving goes on."),
    "resume": ("resume", "Let go on what was paused."),
    "hold": ("hold", "Hold a study: nothing runs on it."),
    "release": ("release", "Release a held study."),
    "corrections": ("corrections", "List what destinations have under an identity that was corrected since."),
    "assessments": ("assessments", "List what readers made of results: rejected, edited, verified."),
    "corpus": ("corpus", "The site's de-identified reports, for chains."),
    "models": ("models", "List, show, verify and run models."),
    "user": ("user", "Users of the console, and tokens for programs."),
    "passcode": ("passcode", "Make a line for the file of users (User Identity)."),
    "rules": ("rules", "Test which rules a study matches, and why; replay what has arrived."),
    "ledger": ("ledger", "Verify the ledger's chain of hashes."),
    "digest": ("digest", "What the last day brought, rule by rule: expected, arrived, answered, late, refused."),
    "egress": ("egress", "List every peer this node calls; write a firewall ruleset."),
    "conformance-statement": ("conformance_statement", "Write the DICOM conformance statement of this configuration."),
    "doctor": ("doctor", "Look for what is wrong with this installation."),
}


@dataclass(frozen=True)
class Invocation:
    """What stands before the command's name."""

    config: Path | None

    def settings(self) -> Settings:
        """The settings of ``--config``; the loopback defaults without it."""
        # Not for everybody: the validating library is most of the start of a small command.
        with collector_at_rest():
            from node.settings import load
            from node.site_time import adopt

        settings = load(self.config)
        adopt(settings.node.time_zone)
        return settings


class LazyGroup(TyperGroup):
    """Lists commands without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the command's module and return its command."""
        if cmd_name not in COMMANDS:
            return None
        with collector_at_rest():
            module = importlib.import_module(f"node.commands.{COMMANDS[cmd_name][0]}")
        return typer.main.get_command(module.app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def new_app(help_text: str = "") -> typer.Typer:
    """A Typer application in this product's manner: plain help, no shell completion, plain tracebacks."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )


app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(metadata.version("ainode"))
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", help=f"node.toml; also taken from {CONFIG_VARIABLE}.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """A DICOM-native AI node: images in by C-STORE, results out by C-STORE.

    Exit codes: 0 done, 1 refused with a reason, 2 wrong usage.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    ctx.obj = Invocation(config or (Path(named) if named else None))


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if not _status_at_once(words):
            typer.main.get_command(app).main(args=words, prog_name="ainode")
    except NodeError as error:
        typer.echo(f"ainode: {error}", err=True)
        if error.remedy:
            typer.echo(f"        {error.remedy}", err=True)
        return 2 if isinstance(error, UsageError) else 1
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    except BrokenPipeError:
        # Whoever read our output has seen enough (`ainode jobs | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _status_at_once(words: list[str]) -> bool:
    """Answer ``[--config F] status [--json]`` without the library that reads command lines; False for anything else.

    Monitoring asks every few seconds, and the library costs more than the answer.
    """
    config: str | None
    match words:
        case ["--config", file, "status"]:
            config, as_json = file, False
        case ["--config", file, "status", "--json"]:
            config, as_json = file, True
        case ["status"]:
            config, as_json = os.environ.get(CONFIG_VARIABLE), False
        case ["status", "--json"]:
            config, as_json = os.environ.get(CONFIG_VARIABLE), True
        case _:
            return False
    from node.commands.status import tell_status

    tell_status(Path(config) if config else None, as_json=as_json)
    return True
