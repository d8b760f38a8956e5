"""Decoders of onnxruntime-genai's builder for the tests, made in an environment of its own.

``AINODE_GENAI_PYTHON=…/bin/python python -m tests.generators.built_decoders`` writes them anew; that environment holds
onnxruntime-genai, onnxruntime, torch and transformers. Made with onnxruntime-genai 0.18.0, transformers 5.24.0.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

from models.export.text_part import write_text_part
from tests.unit.models_generation import references

FOLDER = Path(__file__).resolve().parent.parent / "unit" / "models_generation" / "built"
PYTHON = os.environ.get("AINODE_GENAI_PYTHON", "")
"""Interpreter of that environment; empty: what lies in :data:`FOLDER` is taken."""
PLACES = 128
"""Places the tables of turns are made for: as released they would be megabytes."""
SYSTEMS = {
    "llava-med": lambda folder: references.llava(folder, llama=False),
    "bimedix2": lambda folder: references.llava(folder, llama=True),
    "lingshu": lambda folder: references.qwen(folder, gated=True),
    "hulu-med": lambda folder: references.hulu(folder, three=True),
    "fleming-vl": references.intern,
}
STORED = ("llava-med", "lingshu", "hulu-med")
_RELEASED = {"lingshu": {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "tie_word_embeddings": False}}
"""What the small folder's configuration leaves out and the released one states."""


def reference(system: str, folder: Path) -> references.Reference:
    """Its small model, with heads of 16, the smallest the fused operator turns; Qwen2.5-VL's are turned outside of it."""
    wide = {} if system == "lingshu" else {"num_attention_heads": 2, "num_key_value_heads": 1}
    with mock.patch.object(references, "TEXT", {**references.TEXT, **wide}):
        return SYSTEMS[system](folder)


def build(system: str, checkpoint: Path, out: Path, *, embeds: bool = False) -> Path:
    """Run the builder on a published folder, as docs/model-engineer.md says; ``embeds``: with the table of words."""
    with tempfile.TemporaryDirectory() as work:
        source = Path(work, "in")
        if system in _RELEASED:
            shutil.copytree(checkpoint, source)
        else:
            write_text_part(system, checkpoint, source)
        config = json.loads((source / "config.json").read_text())
        config |= {**_RELEASED.get(system, {}), "max_position_embeddings": PLACES}
        (source / "config.json").write_text(json.dumps(config))
        words = ["-m", "onnxruntime_genai.models.builder", "-m", system, "-i", str(source), "-o", str(out)]
        words += ["-p", "fp32", "-e", "cpu", "-c", str(Path(work, "cache"))]
        words += [] if embeds else ["--extra_options", "exclude_embeds=true"]
        environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HOME": work}
        subprocess.run([PYTHON, *words], check=True, capture_output=True, env=environment, timeout=300)
    return out


def main() -> int:
    """Write all that are stored."""
    for system in STORED:
        with tempfile.TemporaryDirectory() as work:
            built = build(system, reference(system, Path(work, "in")).folder, Path(work, "out"))
            target = FOLDER / system
            target.mkdir(parents=True, exist_ok=True)
            for name in ("model.onnx", "model.onnx.data"):
                shutil.copyfile(built / name, target / name)
        print(system)
    return 0


if __name__ == "__main__":
    sys.exit(main())
