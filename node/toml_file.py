"""Reads a TOML file of the configuration, with the standard library alone."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from node.errors import ConfigError

DEFAULT_DATA_DIR = "~/.local/share/ainode"


def read_toml(path: Path) -> dict[str, Any]:
    """Content of a file.

    Raises
    ------
    ConfigError
        It cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check name and permissions") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}; correct the line it names") from error


def anchored(data_dir: Path, config: Path) -> Path:
    """``data_dir`` in full. A relative one counts from the file's folder, so that every process of the node agrees."""
    expanded = data_dir.expanduser()
    return expanded if expanded.is_absolute() else (config.parent / expanded).resolve()


def data_dir_of(config: Path | None) -> Path:
    """The data folder alone, for whoever asks a running node, which has checked the rest of the file.

    Raises
    ------
    ConfigError
        The file cannot be read, or names no folder where it should.
    """
    if config is None:
        return Path(DEFAULT_DATA_DIR).expanduser()
    section = read_toml(config).get("node", {})
    named = section.get("data_dir", DEFAULT_DATA_DIR) if isinstance(section, dict) else None
    if not isinstance(named, str):
        raise ConfigError(f"{config}: node.data_dir: is not a path")
    return anchored(Path(named), config)
