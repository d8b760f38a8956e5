"""Build the graphs of the embedded baseline for infarct core: no weights, only published arithmetic.

``python -m models.export.infarct_baseline [FOLDER]`` writes the three graphs byte-identically and prints the digests
the card pins. Axes are (slice, row, column) throughout; every tensor is float32.

smooth
    Gaussian smoothing of the signals inside tissue, *before* the logarithm: the logarithm of noisy signals is biased,
    and smoothing an ADC map smears CSF over the cortex.
evidence
    DWI relative to the patient's own tissue around it, ADC relative to the patient's own normal ADC, and their sum
    as one figure: the logarithm of how much brighter, plus the logarithm of how much less diffusion.
main
    How far every condition for a seed, and for growth from a seed, is met; positive means all are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from models.card import file_digest
from models.golden import write_golden

OPSET = 18
IR_VERSION = 9
FOLDER = Path(__file__).resolve().parents[1] / "catalogue" / "infarct-adc-baseline"
GRID = ("slices", "rows", "columns")
SMALLEST_SIGNAL = 1e-3
LARGEST_ADC = 4000.0
"""10⁻⁶ mm²/s; above free water, anything is noise."""
RATIO_LIMITS = (0.3, 3.0)

Node = onnx.NodeProto


def _value(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _constant(name: str, values: Sequence[float] | float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)


def _integers(name: str, values: Sequence[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype=np.int64), name)


def _model(
    name: str,
    nodes: Sequence[Node],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(constants))
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="ainode",
        producer_version="1",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def smooth_graph() -> onnx.ModelProto:
    """Inputs dwi, adc (10⁻⁶ mm²/s), tissue (0 or 1), one normalised kernel per axis (odd length), b_value (s/mm²).

    Outputs log_dwi and adc_smooth, both from signals smoothed inside tissue only.
    """
    nodes = [
        helper.make_node("Min", ["adc", "largest_adc"], ["adc_limited"]),
        helper.make_node("Mul", ["b_value", "micro"], ["b_micro"]),
        helper.make_node("Mul", ["adc_limited", "b_micro"], ["exponent"]),
        helper.make_node("Exp", ["exponent"], ["decay_inverse"]),
        helper.make_node("Mul", ["dwi", "tissue"], ["dwi_tissue"]),
        helper.make_node("Mul", ["dwi_tissue", "decay_inverse"], ["b0_tissue"]),
    ]
    for part in ("tissue", "dwi_tissue", "b0_tissue"):
        nodes.append(helper.make_node("Unsqueeze", [part, "lead"], [f"{part}_5d"]))
    stack = [f"{part}_5d" for part in ("tissue", "dwi_tissue", "b0_tissue")]
    nodes.append(helper.make_node("Concat", stack, ["stack_0"], axis=0))
    shapes = {"z": [1, 1, -1, 1, 1], "y": [1, 1, 1, -1, 1], "x": [1, 1, 1, 1, -1]}
    for index, axis in enumerate("zyx"):
        nodes.append(helper.make_node("Reshape", [f"kernel_{axis}", f"shape_{axis}"], [f"weight_{axis}"]))
        nodes.append(
            helper.make_node(
                "Conv", [f"stack_{index}", f"weight_{axis}"], [f"stack_{index + 1}"], auto_pad="SAME_UPPER"
            )
        )
    nodes += [
        helper.make_node("Squeeze", ["stack_3", "channel"], ["smoothed"]),
        helper.make_node("Split", ["smoothed"], ["weight", "dwi_sum", "b0_sum"], axis=0, num_outputs=3),
        helper.make_node("Max", ["weight", "smallest"], ["weight_safe"]),
    ]
    for part in ("dwi", "b0"):
        nodes += [
            helper.make_node("Div", [f"{part}_sum", "weight_safe"], [f"{part}_mean"]),
            helper.make_node("Max", [f"{part}_mean", "smallest"], [f"{part}_safe"]),
            helper.make_node("Log", [f"{part}_safe"], [f"{part}_log_4d"]),
            helper.make_node("Squeeze", [f"{part}_log_4d", "first"], ["log_dwi" if part == "dwi" else "log_b0"]),
        ]
    nodes += [
        helper.make_node("Sub", ["log_b0", "log_dwi"], ["attenuation"]),
        helper.make_node("Div", ["attenuation", "b_micro"], ["adc_smooth"]),
    ]
    inputs = [_value(name, GRID) for name in ("dwi", "adc", "tissue")]
    inputs += [_value(f"kernel_{axis}", [f"taps_{axis}"]) for axis in "zyx"] + [_value("b_value", [1])]
    constants = [
        _constant("largest_adc", LARGEST_ADC),
        _constant("micro", 1e-6),
        _constant("smallest", SMALLEST_SIGNAL),
    ]
    constants += [_integers("lead", [0, 1]), _integers("channel", [1]), _integers("first", [0])]
    constants += [_integers(f"shape_{axis}", shape) for axis, shape in shapes.items()]
    return _model("smooth", nodes, inputs, [_value("log_dwi", GRID), _value("adc_smooth", GRID)], constants)


def evidence_graph() -> onnx.ModelProto:
    """Inputs log_dwi, log_background, adc_smooth, adc_reference, tissue.

    Outputs relative_dwi (natural logarithm), adc_ratio, and evidence (−1 outside tissue).
    """
    nodes = [
        helper.make_node("Sub", ["log_dwi", "log_background"], ["relative_dwi"]),
        helper.make_node("Div", ["adc_smooth", "adc_reference"], ["adc_ratio"]),
        helper.make_node("Clip", ["adc_ratio", "ratio_low", "ratio_high"], ["ratio_limited"]),
        helper.make_node("Log", ["ratio_limited"], ["ratio_log"]),
        helper.make_node("Sub", ["relative_dwi", "ratio_log"], ["evidence_everywhere"]),
        helper.make_node("Greater", ["tissue", "half"], ["is_tissue"]),
        helper.make_node("Where", ["is_tissue", "evidence_everywhere", "outside"], ["evidence"]),
    ]
    names = ("log_dwi", "log_background", "adc_smooth", "adc_reference", "tissue")
    constants = [
        _constant("ratio_low", RATIO_LIMITS[0]),
        _constant("ratio_high", RATIO_LIMITS[1]),
        _constant("half", 0.5),
        _constant("outside", -1.0),
    ]
    outputs = [_value(name, GRID) for name in ("relative_dwi", "adc_ratio", "evidence")]
    return _model("evidence", nodes, [_value(name, GRID) for name in names], outputs, constants)


SCORE_MAPS = ("relative_dwi", "adc_ratio", "evidence", "mirror_evidence", "midline", "interior", "tissue")
SCORE_THRESHOLDS = (
    "mirror_cap",
    "midline_penalty",
    "seed_adc_ratio",
    "seed_relative_dwi",
    "seed_evidence",
    "seed_asymmetry",
    "grow_adc_ratio",
    "grow_relative_dwi",
    "grow_evidence",
    "grow_asymmetry",
)


def main_graph() -> onnx.ModelProto:
    """Inputs :data:`SCORE_MAPS` and :data:`SCORE_THRESHOLDS`; outputs asymmetry, seed_score, grow_score.

    Beside the midline there is no other side to compare with: there the evidence itself, less a penalty, stands for
    the asymmetry.
    """
    nodes = [
        helper.make_node("Max", ["mirror_evidence", "zero"], ["mirror_positive"]),
        helper.make_node("Min", ["mirror_positive", "mirror_cap"], ["mirror_limited"]),
        helper.make_node("Sub", ["evidence", "mirror_limited"], ["against_mirror"]),
        helper.make_node("Sub", ["evidence", "midline_penalty"], ["against_penalty"]),
        helper.make_node("Greater", ["midline", "half"], ["is_midline"]),
        helper.make_node("Where", ["is_midline", "against_penalty", "against_mirror"], ["asymmetry"]),
        helper.make_node("Where", ["is_midline", "one", "against_mirror"], ["asymmetry_growing"]),
    ]
    for kind, asymmetry, where in (("seed", "asymmetry", "interior"), ("grow", "asymmetry_growing", "tissue")):
        nodes += [
            helper.make_node("Sub", [f"{kind}_adc_ratio", "adc_ratio"], [f"{kind}_by_adc"]),
            helper.make_node("Sub", ["relative_dwi", f"{kind}_relative_dwi"], [f"{kind}_by_dwi"]),
            helper.make_node("Sub", ["evidence", f"{kind}_evidence"], [f"{kind}_by_evidence"]),
            helper.make_node("Sub", [asymmetry, f"{kind}_asymmetry"], [f"{kind}_by_asymmetry"]),
            helper.make_node(
                "Min", [f"{kind}_by_{part}" for part in ("adc", "dwi", "evidence", "asymmetry")], [f"{kind}_all"]
            ),
            helper.make_node("Greater", [where, "half"], [f"{kind}_where"]),
            helper.make_node("Where", [f"{kind}_where", f"{kind}_all", "outside"], [f"{kind}_score"]),
        ]
    inputs = [_value(name, GRID) for name in SCORE_MAPS] + [_value(name, [1]) for name in SCORE_THRESHOLDS]
    constants = [_constant("zero", 0.0), _constant("one", 1.0), _constant("half", 0.5), _constant("outside", -1.0)]
    outputs = [_value(name, GRID) for name in ("asymmetry", "seed_score", "grow_score")]
    return _model("main", nodes, inputs, outputs, constants)


def export(folder: Path) -> dict[str, str]:
    """Write ``smooth.onnx``, ``evidence.onnx`` and ``main.onnx``; give back their SHA-256 by graph name."""
    digests = {}
    for name, build in (("smooth", smooth_graph), ("evidence", evidence_graph), ("main", main_graph)):
        path = folder / f"{name}.onnx"
        path.write_bytes(build().SerializeToString(deterministic=True))
        digests[name] = file_digest(path)
    return digests


def export_golden(folder: Path) -> dict[str, str]:
    """Write the known answer of each graph, by ONNX's reference evaluator; give back their SHA-256 by graph name."""
    rng = np.random.default_rng(11)
    digests = {}
    for name, build in (("smooth", smooth_graph), ("evidence", evidence_graph), ("main", main_graph)):
        model = build()
        feeds = {value.name: _sample(value, rng) for value in model.graph.input}
        answers = list(ReferenceEvaluator(model).run(None, feeds))
        path = folder / f"{name}-golden.npz"
        outputs = [value.name for value in model.graph.output]
        write_golden(path, feeds, dict(zip(outputs, answers, strict=True)))
        digests[name] = file_digest(path)
    return digests


def _sample(value: onnx.ValueInfoProto, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Plausible numbers for an input, by its name and shape."""
    name = value.name
    sizes = [axis.dim_value or (4, 6, 5)[n] for n, axis in enumerate(value.type.tensor_type.shape.dim)]
    if name.startswith("kernel"):
        return np.array([0.25, 0.5, 0.25], np.float32)
    if name in ("tissue", "interior", "midline"):
        return (rng.random(sizes) > 0.3).astype(np.float32)
    low, high = {"dwi": (50, 900), "adc": (300, 1500), "b_value": (1000, 1000), "log_dwi": (4, 7)}.get(name, (0.1, 1.5))
    low, high = {"log_background": (4, 6), "adc_smooth": (300, 1500), "adc_reference": (700, 900)}.get(
        name, (low, high)
    )
    return rng.uniform(low, high, sizes).astype(np.float32)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for graph, digest in export(target).items():
        print(f"{graph}: {digest}")
    for graph, digest in export_golden(target).items():
        print(f"known answer of {graph}: {digest}")
