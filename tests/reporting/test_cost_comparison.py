"""The comparison at equal cost: what its figure draws, its place on the page, and what it does not take."""

import json
import math
from unittest import mock

import numpy as np
import pytest

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.method_style import method_style
from plphp_core.cli.entry_point import command
from plphp_core.config.report_settings import report_settings
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting.cost_comparison import gather
from plphp_core.reporting.cost_sheets import verdict
from plphp_core.reporting.figures.cost_curves import draw, draw_front, front
from plphp_core.reporting.figures.drawing import style
from plphp_core.reporting.request import ReportRequest
from tests.goldens.records import ROOT, DocumentsAtHand
from tests.goldens.world import COMPARED, compared
from tests.reporting.reports_made import lines_of

ASKED = ("table=compare", "profile=toy", "tasks=[ie,flickr30k]", *COMPARED)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    compared(folder)
    return folder


@pytest.fixture(scope="module")
def shown(world):
    settings = report_settings([*ASKED, f"results={world}"])
    return gather("compare", ReportRequest(load_cells(world / "toy" / "cells", "toy"), settings, ROOT))[0]


def test_the_figure_has_a_line_per_method_over_the_bytes_it_holds(shown):
    with style():
        panels = draw(shown).axes
    assert [panel.get_title() for panel in panels] == ["average", "IE (R-L)", "Flickr30k (C, M)"]
    found = lines_of(panels[2])
    assert list(found) == ["Uncompressed", "Random", "Recency", "SnapKV scope=prompt", "PLPHP"]
    dashed = {label for label, line in found.items() if line.get_linestyle() == "--"}
    assert dashed == {"Random", "Recency"}
    rows = [at for at, (_, one) in enumerate(shown.places, start=1) if one.name == "random"]
    cells = [shown.results.cells[at, "Flickr30k"] for at in rows]
    held = [100 * cell.costs["kv_bytes"].mean() / cell.costs["kv_bytes_full"].mean() for cell in cells]
    changes = [100 * shown.results.average_change(at, ["Flickr30k"]).value for at in rows]
    assert found["Random"].get_xdata() == pytest.approx(held)
    assert found["Random"].get_ydata() == pytest.approx(changes)
    assert found["PLPHP"].get_color() == method_style("plphp").colour and len(found["PLPHP"].get_xdata()) == 1


def test_the_front_is_what_nothing_cheaper_or_as_cheap_outdoes():
    points = [(3.0, 1.0), (1.0, -2.0), (2.0, -3.0), (2.5, 0.0), (1.0, -5.0), (4.0, 1.0)]
    found = front(points)
    assert found == [(1.0, -2.0), (2.5, 0.0), (3.0, 1.0)]
    for cost, score in points:
        outdone = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        assert outdone != ((cost, score) in found)


def test_the_second_figure_shows_every_row_that_has_both(shown):
    assert math.isnan(shown.cost(1, "prefill_flops"))  # older cells do not have it
    with style():
        flops, held = draw_front(shown).axes
    assert not flops.lines
    labels = [line.get_label() for line in held.lines]
    assert labels == [
        "Uncompressed",
        "Random",
        "Recency",
        "SnapKV scope=prompt",
        "PLPHP",
        "Pareto front, controls apart",
    ]
    assert list(held.lines[0].get_xdata()) == [100] and list(held.lines[0].get_ydata()) == [0]
    random = [shown.places.index((budget, shown.equal.against)) + 1 for budget in (0.33, 0.5)]
    assert list(held.lines[1].get_ydata()) == pytest.approx([100 * shown.change(at).value for at in random])


@pytest.mark.parametrize(
    "ends, word",
    [
        ((0.01, 0.2), "above"),
        ((-0.2, -0.01), "below"),
        ((-0.1, 0.1), "no difference shown"),
        ((0.0, 0.1), "no difference shown"),
        ((math.nan, math.nan), "n/a"),
    ],
)
def test_a_verdict_is_what_the_interval_says(ends, word):
    assert verdict(Estimate(sum(ends) / 2, np.zeros(1), *ends)) == word


def test_matches_of_other_weights_are_not_taken(world, tmp_path, capsys):
    compared(tmp_path)
    for path in (tmp_path / "toy" / "matches").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "other"}))
    assert command("report", [*ASKED, f"results={tmp_path}", "report.quiet=true"]) == 1
    assert "nothing is measured at equal bytes on IE, Flickr30k yet: `make compare` does it" in capsys.readouterr().err


def test_it_has_its_place_on_the_page(world, capsys):
    with mock.patch("plphp_core.reporting.dataset_access.DatasetAccess", DocumentsAtHand):
        arguments = ["table=page", "profile=toy", f"results={world}", "report.quiet=true"]
        assert command("report", arguments) == 0, capsys.readouterr().err
    html = (world / "toy" / "report.html").read_text()
    section = html.partition('id="compare"')[2].partition("</section>")[0]
    others = html.partition('id="others"')[2].partition("</section>")[0]
    assert "PLPHP above a random choice" in others and "not the paper’s claims" in others
    assert "how each budget was reached" in section and "data:image/png;base64," in section
