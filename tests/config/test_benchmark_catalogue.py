"""Benchmarks are data: label, metrics, order and group come from `configs/tasks`."""

import pytest

from plphp_core.config.benchmark_catalogue import catalogue
from tests.reporting import factories


def test_the_papers_benchmarks_come_first_in_its_order():
    known = catalogue()
    assert known.labels[:7] == factories.BENCHMARKS
    assert [(name, metric) for name in known.labels[:7] for metric in known[name].metrics] == factories.COLUMNS
    assert known.group("multi_image") == factories.BENCHMARKS[:4]


def test_a_benchmark_may_be_nothing_but_a_label_or_not_be_there_at_all(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "b.yaml").write_text("b: Bee\n")
    (tmp_path / "tasks" / "a.yaml").write_text("a: {label: Ay, order: 2, metrics: {acc: Accuracy}, scale: 1}\n")
    (tmp_path / "tasks" / "both.yaml").write_text("defaults: [b, a]\n")
    known = catalogue(tmp_path)
    assert known.labels == ("Ay", "Bee") and known.ordered(["Zed", "Bee", "Ay", "Bee"]) == ["Ay", "Bee", "Zed"]
    assert known["Ay"].scale == 1 and not known["Zed"].metrics
    (tmp_path / "tasks" / "c.yaml").write_text(
        "c: {label: See, scale: sum, together: id}\nd: {label: Dee, scale: percent}\n"
    )
    assert all(catalogue(tmp_path, tmp_path / "none")[name].scale == 1 for name in ("See", "Dee"))


def test_a_file_that_describes_nothing_is_named(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "a.yaml").write_text("a: {label: Ay, metric: acc}\n")
    with pytest.raises(ValueError, match=r"a\.yaml.*metric"):
        catalogue(tmp_path)
    (tmp_path / "tasks" / "a.yaml").write_text("a: {label: Ay, scale: ratio}\n")
    with pytest.raises(ValueError, match="scale 'ratio' of a; allowed: fraction, percent, sum or a number"):
        catalogue(tmp_path, tmp_path / "none")
