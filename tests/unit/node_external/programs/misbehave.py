"""A program that does what no program may; only the standard library. Its first argument says what."""
# ruff: noqa: PTH110, PTH123, PTH208, PTH211, SIM115

import json
import os
import socket
import sys
import time
from pathlib import Path

source, target = Path(os.environ["MERCURE_IN_DIR"]), Path(os.environ["MERCURE_OUT_DIR"])
what = sys.argv[1]
if what == "hang":
    time.sleep(600)
elif what == "rubbish":
    name = b"1.2.840.10008.5.1.4.1.1.66.4"
    heads = {
        "noise": b"",
        "seg": b"\x08\0\x16\0UI" + len(name).to_bytes(2, "little") + name,
    }
    (target / "seg.dcm").write_bytes(bytes(128) + b"DICM" + heads[sys.argv[2]] + os.urandom(5000))
elif what == "network":
    socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=2)
elif what == "fork":
    # Twice, in a session of its own: what gets away from a process group.
    if os.fork() == 0:
        os.setsid()
        for _ in range(8):
            if os.fork() == 0:
                os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", sys.argv[2]])
        time.sleep(600)
    time.sleep(600 if sys.argv[3] == "wait" else 0.3)
elif what == "link":
    os.symlink("/etc/passwd", target / "seg.dcm")
elif what == "flood":
    for n in range(1000):
        (target / str(n)).write_bytes(bytes(1 << 20))
elif what == "report":
    (target / "result.json").write_text(json.dumps({"brightness": {"mean": float(sys.argv[2])}}))
elif what == "look":
    seen = {
        "environment": dict(os.environ),
        "root": sorted(os.listdir("/")),
        "node": os.path.exists(sys.argv[2]),
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "names": sorted(os.listdir(source)),
        "named": [name for name in os.listdir(source) if sys.argv[3].encode() in (source / name).read_bytes()],
        "capabilities": [line for line in open("/proc/self/status").read().splitlines() if line.startswith("CapEff")],
    }
    for path in (source / "x", Path("/opt/model/x"), Path("/usr/x")):
        try:
            path.write_text("")
        except OSError as error:
            seen[str(path.parent)] = error.errno
    (target / "result.json").write_text(json.dumps({"seen": 1.0, "all": seen}))
    sys.exit(json.dumps(seen))
