"""Conditions of rules beyond plain headers: geometry, content, order, roles, hours, samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.archive.headers import plane_of
from node.offline import studies_in
from node.orders import Code, Order
from node.routing import Circumstances, InstanceFacts, match
from node.settings import RuleMatch, RuleSection
from tests.network import instance


def images(series: str, count: int, modality: str = "MR", **headers: Any) -> list[InstanceFacts]:
    return [InstanceFacts(modality, "MR1", "AINODE", headers, series) for _ in range(count)]


DWI = [
    *images(
        "1", 20, series_description="ep2d_diff_b0", b_value=0.0, diffusion=True, plane="axial", image_type=["ORIGINAL"]
    ),
    *images("2", 20, series_description="ep2d_diff_b1000", b_value=1000.0, diffusion=True, plane="axial"),
    *images("3", 20, series_description="ep2d_diff_ADC", image_type=["DERIVED", "ADC"], plane="axial"),
    *images(
        "4", 30, series_description="t1_cor", plane="coronal", tags={"SliceThickness": ["5"], "SeriesNumber": ["4"]}
    ),
]
CT = [
    *images(
        "1",
        50,
        "CT",
        series_description="Abdomen 門脈相",
        tags={"ContrastBolusAgent": ["Iohexol"], "SliceThickness": ["1"]},
    ),
    *images("2", 50, "CT", series_description="単純", tags={"ConvolutionKernel": ["B30f"], "SliceThickness": ["5"]}),
]


@pytest.mark.parametrize(
    ("study", "conditions", "expected", "words"),
    [
        (DWI, {"b_values": [0, 1000]}, True, "b_values: 0, 1000 s/mm2; asked for 0 and 1000"),
        (DWI, {"b_values": [1020]}, True, "asked for 1020"),
        (DWI, {"b_values": [500]}, False, "asked for 500"),
        (DWI, {"plane": ["coronal"]}, True, "plane: 'coronal'"),
        (DWI, {"plane": ["sagittal"]}, False, "plane: 'axial', 'coronal' does not match"),
        (DWI, {"image_type": ["ADC"]}, True, "image_type: 'ADC'"),
        (CT, {"contrast": True}, True, "50 of 100 images name a contrast agent"),
        (CT, {"contrast": False}, False, "asked for none"),
        (CT, {"contrast_phase": ["venous"]}, True, "contrast_phase: 'venous'"),
        (CT, {"contrast_phase": ["arterial"]}, False, "'plain', 'venous' does not match 'arterial'"),
        (CT, {"kernel": ["B3*"]}, True, "kernel: 'B30f'"),
        (CT, {"slice_thickness_maximum": 1.5}, True, "the thinnest slices have 1 mm"),
        (DWI, {"slice_thickness_maximum": 1.5}, False, "the thinnest slices have 5 mm"),
        (DWI[:1], {"slice_thickness_maximum": 1.5}, False, "no image names a slice thickness"),
        (CT, {"tag": {"SliceThickness": ["5"]}}, True, "tag.SliceThickness: '5'"),
        (CT, {"tag": {"KVP": ["120"]}}, False, "tag.KVP: absent from every image"),
        (CT, {"maximum_instances": 99}, False, "maximum_instances: 100"),
    ],
)
def test_conditions(study: list[InstanceFacts], conditions: dict[str, Any], expected: bool, words: str) -> None:
    (verdict,) = match([RuleSection(name="r", model="m", match=RuleMatch(**conditions))], study)
    assert verdict.matched is expected
    assert any(words in sentence for sentence in verdict.explanation), verdict.explanation


def rule(**values: Any) -> RuleSection:
    return RuleSection.model_validate({"name": "r", "model": "m", **values})


def test_roles_take_the_first_candidate_that_fits_and_its_largest_series() -> None:
    wanted = rule(
        role=[
            {"name": "dwi", "candidate": [{"b_values": [2000]}, {"b_values": [1000]}]},
            {"name": "adc", "candidate": [{"image_type": ["ADC"]}]},
            {"name": "flair", "required": False, "candidate": [{"series_description": ["*flair*"]}]},
        ]
    )
    (verdict,) = match([wanted], DWI)
    assert verdict.matched and verdict.series == {"2", "3"}
    said = "\n".join(verdict.explanation)
    assert "role dwi: series 'ep2d_diff_b1000' (20 image(s)) by candidate 2 of 2" in said
    assert "role flair: none of 4 series fits any of 1 candidate(s)" in said
    twice = [*DWI, *images("5", 25, series_description="ep2d_diff_b1000 again", b_value=1000.0)]
    (verdict,) = match([wanted], twice)
    assert verdict.series == {"5", "3"} and "of 2 that fit the one with the most images" in str(verdict.explanation)


def test_a_required_role_that_nothing_fills_tells_what_came_nearest() -> None:
    wanted = rule(role=[{"name": "dwi", "candidate": [{"plane": ["axial"], "b_values": [700]}]}])
    (verdict,) = match([wanted], DWI)
    assert not verdict.matched
    assert "nearest: series 'ep2d_diff_b0' (20 image(s)), but b_values: 0 s/mm2" in verdict.explanation[-1]


ORDER = Order(
    procedure_codes=(Code("7000000100R00000", "JJ1017-16M", "MR 頭部"),),
    reason="r/o stroke",
    priority="STAT",
    station_ae_title="MR1",
)


@pytest.mark.parametrize(
    ("conditions", "orders", "expected", "words"),
    [
        ({}, (), False, "no order is known"),
        ({}, (ORDER,), True, "one is known"),
        ({"priority": ["STAT"]}, (ORDER,), True, "order.priority: 'STAT'"),
        ({"reason": ["*stroke*"]}, (ORDER,), True, "order.reason"),
        ({"station_ae_title": ["MR2"]}, (ORDER,), False, "'MR1' does not match 'MR2'"),
        ({"procedure_code": ["7*"]}, (ORDER,), True, "(MR head right)"),
        ({"jj1017_kind": ["7"], "jj1017_side": ["L"]}, (ORDER,), False, "order.jj1017_side: 'R' does not match 'L'"),
        ({"procedure_description": ["*頭部*"]}, (ORDER,), True, "'MR 頭部'"),
    ],
)
def test_order_conditions(conditions: dict[str, Any], orders: tuple[Order, ...], expected: bool, words: str) -> None:
    (verdict,) = match([rule(match={"order": conditions})], DWI, Circumstances("1.2", orders))
    assert verdict.matched is expected
    assert any(words in sentence for sentence in verdict.explanation), verdict.explanation


@pytest.mark.parametrize(
    ("hours", "minute", "expected"),
    [
        (["08:00-18:00"], 8 * 60, True),
        (["08:00-18:00"], 18 * 60, False),
        (["22:00-06:00"], 23 * 60, True),
        (["22:00-06:00"], 5 * 60 + 59, True),
        (["22:00-06:00"], 6 * 60, False),
        (["01:00-02:00", "06:00-07:00"], 6 * 60, True),
    ],
)
def test_hours(hours: list[str], minute: int, expected: bool) -> None:
    (verdict,) = match([rule(hours=hours)], DWI, Circumstances("1.2", (), minute))
    assert verdict.matched is expected
    assert "hours: it is" in str(verdict.explanation)


def test_a_sample_is_of_that_size_and_always_the_same() -> None:
    wanted = rule(sample_percent=25.0)
    studies = [f"1.2.{number}" for number in range(2000)]

    def taken() -> list[bool]:
        return [match([wanted], DWI[:1], Circumstances(uid))[0].matched for uid in studies]

    first = taken()
    assert first == taken()
    assert 0.2 < sum(first) / len(first) < 0.3


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        ([1, 0, 0, 0, 1, 0], "axial"),
        ([1, 0, 0, 0, 0, -1], "coronal"),
        ([0, 1, 0, 0, 0, -1], "sagittal"),
        ([1, 0, 0, 0, 0.95, 0.31], "axial"),
        ([1, 0, 0, 0, 0.7071, 0.7071], "oblique"),
        ([0, 0, 0, 0, 0, 0], ""),
        ([], ""),
    ],
)
def test_planes(orientation: list[float], plane: str) -> None:
    assert plane_of([float(each) for each in orientation]) == plane


def test_files_are_told_apart_by_series(tmp_path: Path) -> None:
    """`ainode rules test` and `ainode process` see the series that the node sees."""
    for series, name in (("1.1", "ep2d_diff"), ("1.2", "t2")):
        for number in range(2):
            instance(tmp_path, f"{series}-{number}", SeriesInstanceUID=series, SeriesDescription=name)
    (study,) = studies_in([tmp_path])
    (verdict,) = match([rule(role=[{"name": "dwi", "candidate": [{"series_description": ["*diff*"]}]}])], study.facts())
    assert verdict.series == {"1.1"}
    assert len(study.only(verdict.series).files) == 2 and len(study.only(None).files) == 4
