"""Whether every wheel of a bundle can be installed on the hosts that are promised, judged by its tags (PEP 425, PEP 600)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from packaging.utils import parse_wheel_filename

# The oldest of the promised families: RHEL 9 (glibc 2.34); Debian 12 has 2.36.
GLIBC = (2, 34)
_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)$")
_OLD_NAMES = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


def unfit(name: str, *, python: tuple[int, int], machine: str, glibc: tuple[int, int] = GLIBC) -> str:
    """Why a wheel of this file name does not fit CPython ``python`` on ``machine``; empty where it does."""
    _, _, _, tags = parse_wheel_filename(name)
    own = f"cp{python[0]}{python[1]}"
    if not any(_platform_fits(tag.platform, machine, glibc) for tag in tags):
        return f"{name}: built for {', '.join(sorted({tag.platform for tag in tags}))}"
    for tag in tags:
        stable = tag.abi == "abi3" and tag.interpreter.startswith("cp3") and int(tag.interpreter[3:]) <= python[1]
        if tag.interpreter in (own, f"py{python[0]}") or stable:
            return ""
    return f"{name}: built for another Python than {own}"


def _platform_fits(platform: str, machine: str, glibc: tuple[int, int]) -> bool:
    if platform == "any":
        return True
    if found := _MANYLINUX.fullmatch(platform):
        return found[3] == machine and (int(found[1]), int(found[2])) <= glibc
    old, _, built_for = platform.partition("_")
    return old in _OLD_NAMES and built_for == machine and _OLD_NAMES[old] <= glibc


def main(arguments: list[str]) -> int:
    """``python -m release.wheel_tags FOLDER``: check a wheelhouse for RHEL 9 with python3.11, and Debian 12."""
    names = sorted(path.name for path in Path(arguments[0]).glob("*.whl"))
    problems = [problem for name in names if (problem := unfit(name, python=(3, 11), machine="x86_64"))]
    for problem in problems:
        print(problem)
    print(f"{len(names)} wheels, {len(problems)} unfit for CPython 3.11 on glibc {GLIBC[0]}.{GLIBC[1]} (RHEL 9)")
    return 1 if problems or not names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
