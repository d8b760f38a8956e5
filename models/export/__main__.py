"""``python -m models.export SYSTEM CHECKPOINT FOLDER``: convert one checkpoint. `ainode models import` runs it in a child."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from models.errors import ModelError
from models.export import steps
from models.export.imported import Imported
from models.export.systems import converter_of
from models.export.weight_kinds import FLOAT, NAMES


def main(arguments: list[str]) -> int:
    """Convert and print the report as JSON; 1 and the reason on stderr where it is refused."""
    told = _read(arguments)
    try:
        with steps.written_to(sys.stdout):
            imported = _imported(told)
    except ModelError as error:
        print(json.dumps({"code": error.code, "message": error.message, "remedy": error.remedy}), file=sys.stderr)
        return 1
    print(json.dumps(imported.report()))
    return 0


def _imported(told: argparse.Namespace) -> Imported:
    asked = {"variant": told.variant} if told.variant else {}
    imported = converter_of(told.system)(told.checkpoint, told.folder, **asked)
    if told.decoder is not None:
        from models.export.built_decoder import to_built

        imported = to_built(imported, told.folder, told.decoder)
    if told.weights != FLOAT:
        from models.export.smaller_weights import to_smaller

        steps.say(steps.Kind.WEIGHTS)
        imported = to_smaller(imported, told.folder, told.weights, most_changed=told.most_changed)
    imported.save_report(told.folder)
    return imported


def _read(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.export")
    parser.add_argument("system")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", choices=NAMES, default=FLOAT)
    parser.add_argument("--most-changed", type=float, default=None)
    parser.add_argument("--variant", default="")
    parser.add_argument("--decoder", type=Path, default=None)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
