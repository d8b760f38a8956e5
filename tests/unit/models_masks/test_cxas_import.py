"""CXAS converts from its published keys, equals the original's steps, and its overlapping masks reach a DICOM SEG in place."""

from __future__ import annotations

import math
import re
import tomllib
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from scipy import ndimage

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.roles import fill_roles
from dicom_sr.series import load_study
from models.errors import CheckpointMismatch
from models.model import Model
from models.projection_input import network_image
from models.volume import Volume
from tests.generators.radiographs import write_radiograph
from tests.unit.dicom_sr_objects.cases import context

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from torch.nn import functional as F  # noqa: E402

from models.export.checkpoint import Layout  # noqa: E402
from models.export.cxas import convert_sized, shape_of  # noqa: E402
from models.export.cxas_network import CxasShape, CxasUnet  # noqa: E402
from models.export.imported import CARDS_FOLDER  # noqa: E402

SMALL = CxasShape(blocks=(1, 2, 1, 1), first=4, last=6)
SIZE = 128
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HEART, LEFT_LUNG, TRACHEA = 121, 136, 154  # docs/available_classes.md
Tensors = dict[str, torch.Tensor]


def small_network() -> CxasUnet:
    torch.manual_seed(4)
    network = CxasUnet(SMALL).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.bias.data.normal_(0.1, 0.3)
    return network


def plainly(tensors: Tensors, image: torch.Tensor) -> torch.Tensor:
    """The original's order of things, from the tensors by their published names."""

    def norm(x: torch.Tensor, key: str) -> torch.Tensor:
        mean, var, weight, bias = (tensors[f"{key}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias)

    def conv(x: torch.Tensor, key: str, stride: int = 1, pad: int = 0) -> torch.Tensor:
        return F.conv2d(x, tensors[f"{key}.weight"], tensors.get(f"{key}.bias"), stride, pad)

    def double(x: torch.Tensor, key: str) -> torch.Tensor:
        for n in (0, 3):
            x = F.relu(norm(conv(x, f"{key}.{n}", pad=1), f"{key}.{n + 1}"))
        return x

    def enlarge(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, like.shape[2:], mode="bilinear")

    body = "backbone.backbone.layer"
    x = F.max_pool2d(F.relu(norm(conv(image, f"{body}0.0", 2, 3), f"{body}0.1")), 3, 2, 1)
    maps = [x]
    for stage in range(1, 5):
        block = 0
        while f"{body}{stage}.{block}.conv1.weight" in tensors:
            key = f"{body}{stage}.{block}"
            stride = 2 if stage > 1 and not block else 1
            shortcut = x
            if f"{key}.downsample.0.weight" in tensors:
                shortcut = norm(conv(x, f"{key}.downsample.0", stride), f"{key}.downsample.1")
            y = F.relu(norm(conv(x, f"{key}.conv1"), f"{key}.bn1"))
            y = F.relu(norm(conv(y, f"{key}.conv2", stride, 1), f"{key}.bn2"))
            x = F.relu(norm(conv(y, f"{key}.conv3"), f"{key}.bn3") + shortcut)
            block += 1
        maps.append(x)
    down1, down2, down3, down4, down5 = maps
    up = F.relu(norm(conv(down5, "head.up1.conv1.conv.0", pad=1), "head.up1.conv1.conv.1"))
    up = double(torch.cat([down4, enlarge(up, down4)], 1), "head.up1.conv2.double_conv")
    for n, beside in ((2, down3), (3, down2), (4, down1)):
        up = double(torch.cat([beside, enlarge(up, beside)], 1), f"head.up{n}.conv.double_conv")
    return conv(enlarge(up, image), "head.out.conv")


def original_input(values: np.ndarray, size: int) -> torch.Tensor:
    """``FileLoader.load_dicom`` of cxas/file_io.py, written out."""
    tensor = torch.from_numpy(values.astype(np.float32))[None]
    tensor = (tensor - tensor.min()) / (tensor.max() - tensor.min())
    tensor = torch.cat([tensor] * 3, 0)
    tensor = (tensor - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(DEVIATION).view(-1, 1, 1)
    return F.interpolate(tensor[None], size)


def converted(tensors: Tensors, folder: Path) -> Model:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": {f"module.{key}": value for key, value in tensors.items()}}, folder / "UNet.pth")
    report = convert_sized(folder / "UNet.pth", folder, SIZE).report()
    assert (report["missing"], report["unexpected"]) == (0, 0)
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    print("relative differences between torch and ONNX Runtime:", differences)
    assert len(differences) == 3 and max(differences) < 1e-5
    return Model(folder)


def test_the_released_layout() -> None:
    layout = Layout.load("cxas")
    with torch.device("meta"):
        state = CxasUnet(CxasShape()).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == layout.shapes
    assert len(layout.shapes) == 383
    assert sum(math.prod(shape) for shape in layout.shapes.values()) / 1e6 == pytest.approx(73.4, abs=0.06)
    assert shape_of(state) == CxasShape()
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}:\S+", source) for source in layout.source.split())


@pytest.mark.slow
def test_the_masks_are_those_of_the_original(tmp_path: Path) -> None:
    network = small_network()
    tensors = dict(network.state_dict())
    model = converted(tensors, tmp_path / "model")
    model.self_test()
    for shape in ((300, 211), (97, 128)):
        values = np.random.default_rng(3).integers(50, 4000, shape).astype(np.float32)
        volume = Volume(values[None], np.eye(4), facts={"maximum_value": 4095})
        image = original_input(values, SIZE)
        seen = network_image(volume, model._adapter.options.image)  # type: ignore[union-attr]
        assert np.abs(seen - image.numpy()).max() < 1e-5
        with torch.no_grad():
            logits = plainly(tensors, image)
            assert torch.allclose(network(image), logits, atol=1e-5)
            expected = F.interpolate((logits.sigmoid() > 0.5).float(), shape)[0].bool().numpy()
        result = model.run({"image": volume}, {})
        assert result.segmentation is not None
        names = {region.label: region.number for region in result.segmentation.regions}
        assert len(names) == expected.any(axis=(1, 2)).sum() > 20
        for label, truth in zip(model.card.labels, expected, strict=True):
            given = result.segmentation.where(names[label.name])[0] if label.name in names else np.zeros(shape, bool)
            assert (given != truth).mean() < 1e-3  # a logit at zero may fall to either side


def known_weights() -> Tensors:
    """A network that passes brightness on: the heart is what is bright, the left lung what is brighter, no trachea."""
    tensors = {key: torch.zeros_like(value) for key, value in CxasUnet(SMALL).state_dict().items()}
    for key in tensors:
        if key.endswith("running_var"):
            tensors[key] += 1
    body = "backbone.backbone.layer0"
    tensors[f"{body}.0.weight"][0, 0, 3, 3] = 1
    tensors[f"{body}.1.weight"][0] = 1
    for n in (0, 3):
        tensors[f"head.up4.conv.double_conv.{n}.weight"][0, 0, 1, 1] = 1
        tensors[f"head.up4.conv.double_conv.{n + 1}.weight"][0] = 1
    tensors["head.out.conv.bias"] -= 5
    for number, limit in ((HEART, 0.3), (LEFT_LUNG, 1.5)):
        tensors["head.out.conv.weight"][number, 0] = 10
        tensors["head.out.conv.bias"][number] = -10 * limit
    return tensors


@pytest.mark.slow
def test_a_known_answer_lies_in_place_on_the_radiograph(tmp_path: Path) -> None:
    model = converted(known_weights(), tmp_path / "model")
    values = np.full((256, 320), 200, np.uint16)
    values[64:192, 80:240] = 2900  # 0.71 of the range: brighter than ImageNet's mean
    values[96:144, 160:224] = 4000
    write_radiograph(tmp_path / "a.dcm", values)
    study = load_study([tmp_path / "a.dcm"])
    source = fill_roles(study, model.card.inputs)["image"]
    result = model.run({"image": source.volume}, {})
    (rendered,) = render(result, study, context(objects=("seg",)), source)
    check([rendered], study, result, source)
    seg = hd.seg.segread(BytesIO(rendered.encoded))
    assert seg.SegmentsOverlap == "YES"
    pixels = seg.get_pixels_by_source_instance([source.frames[0].sop_instance_uid], combine_segments=False)[0] > 0
    segments = {str(item.SegmentLabel): item for item in seg.SegmentSequence}
    assert set(segments) == {"Heart", "Left lung"}  # and neither trachea nor anything else
    lung = segments["Left lung"]
    assert lung.SegmentedPropertyTypeCodeSequence[0].CodeValue == "39607008"
    assert lung.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeMeaning == "Left"
    for name, truth in (("Heart", values > 1000), ("Left lung", values > 3500)):
        given = pixels[..., segments[name].SegmentNumber - 1]
        # The network sees about every second pixel and answers for every fourth of those, between which it interpolates.
        near = np.ones((2 * 16 + 1, 2 * 16 + 1), bool)
        assert given[ndimage.binary_erosion(truth, near)].all()
        assert not given[~ndimage.binary_dilation(truth, near)].any()
        rows, columns = (np.flatnonzero(given.any(axis=axis)) for axis in (1, 0))
        there, across = (np.flatnonzero(truth.any(axis=axis)) for axis in (1, 0))
        centre = [(each[0] + each[-1]) / 2 for each in (rows, columns)]
        assert centre == pytest.approx([(each[0] + each[-1]) / 2 for each in (there, across)], abs=8)
    assert (pixels.sum(axis=-1) > 1).sum() > 1000


def test_the_card_names_every_structure() -> None:
    labels = tomllib.loads((CARDS_FOLDER / "cxas.toml").read_text(encoding="utf-8"))["labels"]
    assert [each["value"] for each in labels] == list(range(1, 160))
    assert len({each["name"] for each in labels}) == 159
    named = {n: labels[n]["name"] for n in (0, 36, 82, HEART, LEFT_LUNG, TRACHEA, 158)}
    words = ("Spine", "Posterior 12th rib right", "12th rib", "Heart", "Left lung", "Trachea", "Breast right")
    assert tuple(named.values()) == words
    for each in labels:
        side = next((side for side in ("left", "right") if side in each["name"].lower().split()), None)
        chamber = each["name"].startswith("Heart ")  # the side is the chamber's, not the patient's
        assert each.get("side") == (None if chamber else side) or (side is None and each["side"] == "bilateral")
        assert re.fullmatch(r"\d{6,18}", each["finding"]["value"]) or each["finding"]["scheme"] == "99CXAS"


@pytest.mark.parametrize("change", ["missing", "unexpected", "another shape", "other structures", "another network"])
def test_other_layouts_are_refused(tmp_path: Path, change: str) -> None:
    tensors = dict(small_network().state_dict())
    key = "head.up1.conv2.double_conv.3.weight"
    told = re.escape(key)
    if change == "missing":
        del tensors[key]
    elif change == "unexpected":
        tensors["backbone.backbone.fc.weight"], told = torch.zeros(2), "backbone.fc"
    elif change == "another shape":
        tensors[key] = torch.zeros(3)
    elif change == "other structures":
        tensors["head.out.conv.weight"], told = torch.zeros(157, 6, 1, 1), "157 structures"
    else:
        tensors, told = {"fc.weight": torch.zeros(2)}, "not a checkpoint of CXAS"
    torch.save({"model": tensors}, tmp_path / "x.pth")
    with pytest.raises(CheckpointMismatch, match=told):
        convert_sized(tmp_path / "x.pth", tmp_path, SIZE)
    assert not list(tmp_path.glob("*.onnx"))
