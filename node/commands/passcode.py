"""``ainode passcode``."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import new_app

app = new_app()


@app.command()
def passcode(name: Annotated[str, typer.Argument(metavar="NAME", help="User name, as the peer sends it.")]) -> None:
    """Ask for a passcode and print the line that the file of ``receive.users`` needs. The passcode is not kept."""
    from node.dicom.passcodes import line_for

    given = typer.prompt("Passcode", hide_input=True, confirmation_prompt=True, err=True)
    typer.echo(line_for(name, given))
