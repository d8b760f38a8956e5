"""``python -m models.export SYSTEM CHECKPOINT FOLDER``: convert one checkpoint. `ainode models import` runs it in a child."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from models.errors import ModelError
from models.export.systems import converter_of


def main(arguments: list[str]) -> int:
    """Convert and print the report as JSON; 1 and the reason on stderr where it is refused."""
    system, checkpoint, folder = arguments[0], Path(arguments[1]), Path(arguments[2])
    try:
        imported = converter_of(system)(checkpoint, folder)
        imported.save_report(folder)
    except ModelError as error:
        print(json.dumps({"code": error.code, "message": error.message, "remedy": error.remedy}), file=sys.stderr)
        return 1
    print(json.dumps(imported.report()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
