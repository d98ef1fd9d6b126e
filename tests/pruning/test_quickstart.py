"""docs/quickstart.md runs as printed, from top to bottom, and prints what it says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What the page's blocks print and leave behind, run in order in an empty folder beside the repository's files."""
    import contextlib
    import io
    import os

    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    folder, before, said, scope = tmp_path_factory.mktemp("quickstart"), Path.cwd(), io.StringIO(), {}
    (folder / "tasks").symlink_to(ROOT / "tasks")
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(said):
            for block in blocks:
                exec(compile(block, "quickstart.md", "exec"), scope)
    finally:
        os.chdir(before)
    return said.getvalue(), scope, folder, blocks


def test_every_block_runs(ran):
    assert len(ran[3]) >= 8


def test_the_toy_sees_the_image_with_and_without_pruning(ran):
    lines = ran[0].splitlines()
    for line in (lines[0], lines[1]):
        assert "green triangle" in line and "red diamond" in line
    assert re.search(r"[\d,]+ of [\d,]+ bytes, [1-9]\d?% saved", ran[0])


def test_the_trace_is_told_layer_by_layer(ran):
    found = re.findall(r"layer (\d+): (\d+)% of .* vision, (\d+)% of the tokens kept", ran[0])
    assert [int(layer) for layer, *_ in found] == list(range(12))
    assert [kept for *_, kept in found[:2]] == ["100", "100"] and found[-1][2] == "100"
    assert min(int(kept) for *_, kept in found) < 100


def test_the_picture_shows_dropped_tokens(ran):
    from PIL import Image

    picture = Image.open(ran[2] / "kept.png")
    assert picture.size == (480, 480) and ran[1]["share"].min() < 1 and ran[1]["share"].max() == 1


def test_fast_decoding_says_the_same(ran):
    lines = ran[0].splitlines()
    assert lines[-1].startswith(lines[1]) and "ms per token" in lines[-1]
