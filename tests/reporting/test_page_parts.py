"""The parts of the HTML report on their own: paths, fidelity choices, tables and figures, thumbnails, failing data."""

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace

from PIL import Image

from plphp_core.reporting.dataset_access import images, references
from plphp_core.reporting.page.fidelity import fidelity_choices
from plphp_core.reporting.page.html_page import path_cleaner
from plphp_core.reporting.page.pieces import LONG_SIDE, Pieces, data_uri
from plphp_core.reporting.page.sections import sections
from plphp_core.reporting.request import Report
from plphp_core.reporting.table_model import Table
from tests.reporting.page_factories import drawing, photograph, sheet
from tests.reporting.reports_made import ROOT


def test_only_whole_folder_names_are_rewritten():
    clean = path_cleaner(Path("/srv/work"), Path("/srv/results"))
    given = ("/srv/work/a", "/srv/workshop/a", "/srv/work", "see /srv/work/b", "/srv/results/toy")
    assert [clean(one) for one in given] == ["a", "/srv/workshop/a", ".", "see b", "results/toy"]


def test_fidelity_choices_are_rendered_without_html_of_their_own(tmp_path):
    path = tmp_path / "fidelity.md"
    path.write_text(
        "# Title\n\n## A topic\n\n| a | b |\n|:--|--:|\n| <b>x</b> | [there](#a-topic) |\n\n[file](other.md) ![i](http://x/y.png)\n"
    )
    html = fidelity_choices(path)
    assert "Title" not in html and '<h3 id="fidelity-a-topic">A topic</h3>' in html
    assert "&lt;b&gt;x" in html and 'href="#fidelity-a-topic"' in html
    assert "other.md" not in html and "file" in html and "img" not in html and "style" not in html
    assert fidelity_choices(tmp_path / "none.md") is None
    real = fidelity_choices(ROOT / "docs" / "fidelity.md")
    targets = re.findall(r'href="#([^"]+)"', real)
    assert targets and set(targets) <= set(re.findall(r'id="([^"]+)"', real))


def test_groups_and_row_names_of_tables():
    (section,) = sections([Report("table1", ".limit=4.seed=1", [sheet("T")], [], {})])
    assert section.name == "Table 1 (limit=4, seed=1)" and section.anchor == "table1-limit-4-seed-1"
    (view,) = section.tables
    assert list(view.groups) == [("", 1), ("SD", 2)] and view.stub == 1


def test_long_texts_wrap_and_sheets_of_one_kind_share_a_title():
    cases = [sheet(f"Figure 8: case {name}", texts=("FastV", "words " * 20)) for name in ("SD", "SV")]
    (section,) = sections([Report("figure8", "", cases, [], {}, {"png": b"x"})])
    assert section.title == "Figure 8" and section.pictures[0][1].startswith("Figure 8. The numbers")
    assert [view.long for view in section.tables] == [[1], [1]]
    others = [cases[0], Table("Figure 8: intervals", cases[0].columns[:1], ())]
    (section,) = sections([Report("figure8", "", others, [], {})])
    assert section.title == "Figure 8: case SD"


def test_thumbnails_are_small_exact_where_drawn_and_kept_once(tmp_path):
    def opened(uri):
        return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")

    small = drawing(77)
    assert opened(data_uri(small)).tobytes() == small.tobytes()
    large = data_uri(photograph(1))
    assert opened(large).size == (LONG_SIDE, 168) and len(large) < 40_000
    with Pieces(tmp_path) as pieces:
        places = [pieces.picture(drawing(at)) for at in (1, 2, 1)]
        assert places == [(0, 0), (0, 1), (0, 0)]
        assert pieces.picture(Image.new("F", (4, 4))) is None
        pieces.close_album()
        assert [name for name, _ in pieces.inline()] == ["images-0"]


def test_a_document_whose_code_fails_loses_its_references_or_images_only():
    def broken(*_):
        raise KeyError("answer")

    task = SimpleNamespace(doc_to_target=broken, eval_docs_no_media=[{}])
    requests = {0: SimpleNamespace(visuals=broken)}
    opened = SimpleNamespace(task=task, requests=requests, facts=SimpleNamespace(task="a task"))
    assert references(opened, 0) == [] and list(images(opened, 0)) == []
