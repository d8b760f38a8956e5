"""Databases the store tests run on."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from node.settings import Settings
from tests.peers import require


@dataclass(frozen=True)
class PostgreSQL:
    """A running cluster."""

    folder: Path

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database in it."""
        return f"postgresql://ainode@/{database}?host={self.folder}"

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Run one statement outside a transaction."""
        with psycopg.connect(host=str(self.folder), user="ainode", dbname=database, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


def settings_for(url: str, folder: Path, **sections: Any) -> Settings:
    """Settings with this store."""
    store = {"url": url, "busy_timeout_seconds": 20.0, **sections.pop("store", {})}
    return Settings.model_validate({"node": {"data_dir": str(folder)}, "store": store, **sections})


def run_server_program(folder: Path, program: str, *arguments: str) -> None:
    """Run a program of the server; as user postgres where this is root, which it refuses to run as."""
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    # The server keeps its standard output: a pipe would never end.
    with (folder.parent / f"{folder.name}.out").open("w+b") as output:
        Path(output.name).unlink()
        done = subprocess.run(
            [require(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            timeout=60,
            check=False,
            **account,
        )
        output.seek(0)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {output.read().decode(errors='replace')}")
