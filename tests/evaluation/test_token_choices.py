"""Token maps hold what `prune` and `generate` do, and the figure says it in numbers and frames."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from plphp_core import prune
from plphp_core.config.report_settings import ReportSettings
from plphp_core.config.run_settings import MethodSettings
from plphp_core.evaluation.attention.token_choices import map_tokens
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_tasks import Suite
from plphp_core.pruning.method import make_method
from plphp_core.records.errors import ReportError, UserError
from plphp_core.records.revisions import Fingerprints
from plphp_core.reporting.reports import make_report
from plphp_core.reporting.request import ReportRequest
from plphp_core.vision.token_pictures import FRAMES
from tests.evaluation.factories import settings

DOC = 2  # of two images
METHODS = {
    "fastv": {"K": 2, "R": 0.5},
    "visionzip": {"ratio": 0.5},
    "sparsevlm": {"layer_list": "1+2+4", "budget": 64},
    "plphp": {"r": 0.5, "delta_r": 0.2, "alpha": 0.6, "beta": 0.4},
    "vtw": {"K": 99},
}


@pytest.fixture
def chosen(world, tmp_path):
    rows = (MethodSettings(name, make_method(name, **params).params(), "") for name, params in METHODS.items())
    return dataclasses.replace(settings(world), methods=tuple(rows), results=tmp_path / "mini")


@pytest.fixture
def reported(tmp_path):
    """Makes the figure of what has been read."""

    def report(**options):
        asked = ReportSettings(table="token_maps", profile="mini", results=tmp_path, model="tiny", **options)
        return make_report("token_maps", ReportRequest([], asked, tmp_path))

    return report


def traced(chosen, loader, row):
    """The trace of `prune` and `generate` on the sample, and all its vision tokens."""
    suite = Suite(chosen, Fingerprints(chosen.results / "none.json"))
    reader = JointAnswerer(loader(chosen.model))
    inputs, _ = reader.inputs(suite.open(suite.facts(chosen.benchmarks[0])).requests[DOC])
    with prune(reader.loaded.model, row.built) as trace:
        reader.loaded.model.generate(**inputs, max_new_tokens=1, do_sample=False)
    return trace, torch.cat(trace.images[0])


def test_maps_hold_what_prune_and_generate_do(chosen, loader, display, reported):
    path = map_tokens(chosen, DOC, 1, loader, display)
    record, tensors = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
    (sheet,) = reported(doc=DOC).sheets
    for at, row in enumerate(chosen.methods):
        said = [cell.text for cell in sheet.rows[at].cells]
        if row.name == "vtw":
            assert "K = 99" in record["samples"][0]["refused"][at] and said[3:] == ["n/a"] * 3
            assert any("No map: VTW on sample 2" in note and "K = 99" in note for note in sheet.notes)
            continue
        trace, positions = traced(chosen, loader, row)
        kept, merged = tensors[f"0.{at}.kept"].bool(), tensors[f"0.{at}.merged"].bool()
        for layer, (own,) in enumerate(trace.kept):
            assert [positions[head].tolist() for head in kept[layer]] == [one.tolist() for one in own]
            assert positions[merged[layer]].tolist() == trace.merged[layer][0].tolist()
        assert bool(merged.any()) is (row.name in ("visionzip", "sparsevlm"))
        assert tensors[f"0.{at}.image_of"].tolist() == [j for j, own in enumerate(trace.images[0]) for _ in own]
        assert tensors[f"0.{at}.boxes"].shape == (len(positions), 4)
        assert said[3:] == [
            f"{100 * trace.retention[0].mean():.1f}%",
            f"{100 * trace.retention[0].min():.1f}%",
            str(int(merged.any(0).sum())),
        ]


def test_the_figure_has_frames_where_something_is_merged_and_only_there(chosen, loader, display, reported):
    def frames(picture):
        return (np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) == FRAMES[1]).all(-1).any()

    for name in ("fastv", "visionzip"):
        rows = tuple(row for row in chosen.methods if row.name == name)
        map_tokens(dataclasses.replace(chosen, methods=rows), None, 2, loader, display)
        assert frames(reported(layer=5).pictures["png"]) is np.bool_(name == "visionzip")


@pytest.mark.parametrize("options, error", [
    ({"layer": 6}, "layers 0 to 5"),
    ({"image": 3}, "images 1 to 2"),
    ({"doc": 7}, "plphp reproduce table=token_maps .* attention.doc=7"),
])  # fmt: skip
def test_what_was_not_read_is_said(chosen, loader, display, reported, options, error):
    map_tokens(chosen, DOC, 1, loader, display)
    with pytest.raises(ReportError, match=error):
        reported(**({"doc": DOC} | options))


def test_what_cannot_be_mapped_is_refused(chosen, loader, display, reported):
    with pytest.raises(UserError, match=re.escape("attention.doc = 99, but mini_a has the samples 0 to 9")):
        map_tokens(chosen, 99, 1, loader, display)
    with pytest.raises(UserError, match=r"no method has a map on tiny: .*K = 99"):
        map_tokens(dataclasses.replace(chosen, methods=chosen.methods[-1:]), DOC, 1, loader, display)
    path = map_tokens(chosen, None, 1, loader, display)
    path.with_suffix(".safetensors").write_bytes(b"torn")
    with pytest.raises(ReportError, match=rf"{path.name}: cannot be read"):
        reported()
