"""A model host sees what is installed, exchanged or taken away, from its next job on."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from models.card import EMBEDDED
from models.registry import Registry
from node.jobs import model_host
from node.jobs.chat_pipe import ChatPipe
from node.jobs.host_models import HostModels


def install(folder: Path, version: str) -> None:
    """Put a version in the place of another, whole."""
    made = folder.parent / ".new"
    shutil.copytree(EMBEDDED / "infarct-adc-baseline", made)
    card = made / "model.toml"
    text = card.read_text(encoding="utf-8")
    card.write_text(
        text.replace('id = "infarct-adc-baseline"', 'id = "site"').replace("1.2.0", version), encoding="utf-8"
    )
    if folder.exists():
        folder.rename(folder.parent / f".old-{version}")
    made.rename(folder)


def test_models_come_change_and_go(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        registries: dict = {}
        models = HostModels([tmp_path])

        def installed() -> Registry:
            return model_host._registry(models.folders_of(["site"]), 1, registries, ChatPipe(ours))

        assert "site" not in {each.card.id for each in installed().list()}
        install(tmp_path / "site", "1.0.0")
        first = installed()
        before = first.get("site").digest
        assert first.get("site").card.version == "1.0.0" and installed() is first
        install(tmp_path / "site", "2.0.0")
        second = installed()
        assert second.get("site").card.version == "2.0.0" and len(registries) == 1
        assert second.get("site").digest != before
        shutil.rmtree(tmp_path / "site")
        assert "site" not in {each.card.id for each in installed().list()}
