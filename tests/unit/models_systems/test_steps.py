"""Steps of an import: counted as they were planned, told over a pipe, shown as a bar or as lines."""

from __future__ import annotations

import io
import sys

import pytest

from models.export import steps
from models.export.steps import Count, Kind, Step
from models.export.systems import described
from node.commands.step_bar import step_bar
from node.model_import import planned

MEDSAM = [
    Step(Kind.READ),
    Step(Kind.KEYS),
    *(
        Step(kind, graph, part)
        for graph in ("encoder.onnx", "decoder.onnx")
        for kind, part in (
            (Kind.CONVERT, "legacy exporter"),
            (Kind.CONVERT, "dynamo exporter"),
            (Kind.COMPARE, "1 of 2 sizes"),
            (Kind.COMPARE, "2 of 2 sizes"),
            (Kind.ANSWER, ""),
        )
    ),
    Step(Kind.CARD),
]


def test_parts_and_second_tries_are_no_steps_of_their_own() -> None:
    count = Count(planned("medsam"))
    shown = []
    for step in MEDSAM:
        count.add(step)
        shown.append(count.begun)
    assert shown == [1, 2, 3, 3, 4, 4, 5, 6, 6, 7, 7, 8, 9] and count.total == 9
    assert planned("medsam", weights="int8") == 10 and planned("radimagenet") == 6


def test_a_bar_grows_where_more_comes_than_was_known() -> None:
    count = Count(1)
    for step in (Step(Kind.READ), Step(Kind.CARD)):
        count.add(step)
    assert (count.begun, count.total) == (2, 2)


def test_what_is_said_is_read_on_the_other_side() -> None:
    pipe = io.StringIO()
    with steps.written_to(pipe):
        steps.say(Kind.COMPARE, "main.onnx", "2 of 3 sizes")
    assert steps.read(pipe.getvalue()) == Step(Kind.COMPARE, "main.onnx", "2 of 3 sizes")
    steps.say(Kind.CARD)
    assert pipe.getvalue().count("\n") == 1, "where nobody listens nothing is written"


@pytest.mark.parametrize(
    "line", ["", "torch says hello", "3", "[]", '{"import_step": 1}', '{"import_step": {"kind": "dance"}}']
)
def test_other_lines_are_none(line: str) -> None:
    assert steps.read(line) is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_terminals_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with step_bar(planned("medsam")) as hears:
        for step in MEDSAM[:3]:
            hears(step)
    lines = ["1/9 read the checkpoint", "2/9 check its keys", "3/9 encoder.onnx: convert (legacy exporter)"]
    assert capsys.readouterr().err.splitlines() == lines
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with step_bar(planned("medsam")) as hears:
        for step in MEDSAM:
            hears(step)
    assert "9/9" in terminal.getvalue() and "done" in terminal.getvalue() and "━" in terminal.getvalue()


def test_numbers_of_graphs_are_plausible() -> None:
    assert all(1 <= each.graphs <= 10 for each in described().values())
