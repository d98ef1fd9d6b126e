"""Figure 8: the samples that all methods answered, their answers whole, their costs those of the journal."""

from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from plphp_core.analysis.comparable import rows_found
from plphp_core.analysis.results import evaluate
from plphp_core.config.report_choices import Filters
from plphp_core.reporting.figures.answers_side_by_side import FIGURE8, WRONG, SideBySide, tables
from plphp_core.reporting.qualitative_examples import choose, differing, examples, read_answers
from tests.reporting.page_factories import FakeDocuments, World, answer

LONG = "word " * 400


class Costly(World):
    """Every journal line says what its answer took."""

    def line(self, record, key, doc_id, layers, failed):
        kept = 1.0 if record["method"] == "none" else 0.5
        costs = {
            "new_tokens": 10 + doc_id, "kv_bytes": round(kept * 2**20), "kv_bytes_full": 2**20, "prefill_ms": 400.0,
            "decode_ms": 800.0, "batch_size": 4,
        }  # fmt: skip
        made = super().line(record, key, doc_id, layers, failed)
        return made if failed else made.model_copy(update={"answer": made.answer.model_copy(update=costs)})


@pytest.fixture
def world(tmp_path):
    texts = {("plphp", doc): LONG for doc in range(30)} | {("fastv", doc): "$x_1$ <b>&" for doc in range(30)}
    return Costly(tmp_path, benchmarks=("SD", "VST"), texts=texts, failed=(7,))


@pytest.fixture
def results(world):
    asked = world.asked()
    return evaluate(asked.cells, rows_found(asked.cells), Filters(), asked.choices)


def read(world, results, *names):
    return read_answers(results, world.folder / "toy", names or ("SD", "VST"))


def of(world, results, chosen, **documents):
    found = examples(results, read(world, results), FakeDocuments(30, **documents), chosen)
    return SideBySide(found, results, "at random (seed 3)")


def test_samples_are_drawn_by_seed_from_what_every_method_answered(world, results):
    both, one = read(world, results), read(world, results, "SD")
    found = choose(results, both, 29, 0, None)
    assert [doc for name, doc in found if name == "SD"] == [doc for doc in range(30) if doc != 7]
    few = choose(results, both, 2, 0, None)
    assert few == choose(results, both, 2, 0, None) and len(few) == 4
    assert len({tuple(choose(results, one, 2, seed, None)) for seed in range(8)}) > 4


def test_samples_that_methods_answer_differently_come_first(tmp_path):
    said = {("plphp", doc): answer("none", doc) for doc in range(30)}
    said |= {("fastv", doc): "no" if doc == 11 else answer("none", doc) for doc in range(30)}
    alike = Costly(tmp_path, benchmarks=("SD", "VST"), texts=said)
    asked = alike.asked()
    results = evaluate(asked.cells, rows_found(asked.cells), Filters(), asked.choices)
    both = read(alike, results)
    assert differing(both, "SD", range(30)) == {11}
    assert [choose(results, both, 1, seed, None) for seed in range(3)] == [[("SD", 11), ("VST", 11)]] * 3
    found = choose(results, both, 2, 0, None)
    assert len(found) == 4 and ("SD", 11) in found and ("VST", 11) in found


@pytest.mark.parametrize(
    ("documents", "said"),
    [({"refuse": "the data are gone"}, "the data are gone"), ({"ask": lambda doc: "another"}, "something else")],
)
def test_without_its_data_an_example_says_so_and_keeps_its_answers(world, results, draw, documents, said):
    content = of(world, results, [("SD", 5)], **documents)
    (one,) = content.examples
    assert said in one.missing and one.question == "" and len(one.answers) == 3
    draw(FIGURE8, content)
    assert any(said in note for note in tables(content, FIGURE8.page("toy"))[0].notes)


def test_the_figure_has_a_column_per_method_and_nothing_leaves_it(world, results, draw):
    figure = draw(FIGURE8, of(world, results, [("SD", 5), ("VST", 6)]))
    texts = [text for place in figure.subfigs for text in place.texts]
    said = [text.get_text() for text in texts]
    assert said.count("Uncompressed") == said.count("FastV K=2, R=0.5") == said.count("PLPHP r=0.4") == 2
    assert {one.get_text() for one in texts if one.get_color() == WRONG} >= {"$x_1$ <b>&", "_____ ____"}
    assert "15 tokens, 0.30 s (1/4 of a batch)\n50% of vision kept, 0.5 MiB" in said
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert all(box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1 for box in boxes)
    for place in figure.subfigs[1:]:  # columns do not run into each other
        own = [text.get_window_extent(renderer) for text in place.texts[1:]]
        for left, right in pairwise(sorted({round(box.x0) for box in own})):
            assert max(box.x1 for box in own if round(box.x0) == left) < right
