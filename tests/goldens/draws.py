"""The numbers of the world: what a row's answers, scores, costs and attention are drawn around.

They come from `random.Random(text)` and plain arithmetic, so that they are the same with every version of every
library.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from plphp_core.evaluation.requests import Failure
from plphp_core.records.journal_lines import Answer
from plphp_core.vision.spatial_groups import CUTS
from tests.goldens.records import Conditions, Row, Scores, answer, write_cell, write_reading

MULTI_IMAGE, CAPTIONS = ("SD", "IE", "VST", "MV"), ("Flickr30k", "COCO2017", "DetailCaps")
BENCHMARKS = (*MULTI_IMAGE, *CAPTIONS)
# lmms-eval's own: metric → what a score of about a half is multiplied by
UPSTREAM = {
    "GQA": {"exact_match": 1.0},
    "MME": {"mme_perception_score": 2400.0, "mme_cognition_score": 600.0},
    "OCRBench": {"ocrbench_accuracy": 1.0},
}
GAMMA = (0.5, 0.6, 0.5, 0.4, 0.3, 0.2)  # falls; `rise` is won back in the layers after these
WORDS = ("red", "blue", "green", "circle", "square", "left", "right", "two", "three", "moved")


def draw(*names) -> random.Random:
    """Its own stream of numbers for every name."""
    return random.Random("/".join(map(str, names)))


@dataclass(frozen=True)
class Quality:
    """What a row's numbers are drawn around.

    score: share of a document's own score; on: benchmark → another one; kept: share of the vision tokens; faster:
    divides decode times; added: milliseconds of prefill; spread: of a sample's score; alike: benchmarks on which all
    rows that say so score alike, sample by sample; entered: vision tokens that come into attention.
    """

    score: float = 0.95
    kept: float = 1.0
    faster: float = 1.0
    added: float = 0.0
    spread: float = 0.04
    alike: tuple[str, ...] = ()
    entered: float | None = None
    on: dict[str, float] = field(default_factory=dict, hash=False)


def finish(
    folder: Path,
    on: Conditions,
    row: Row,
    quality: Quality,
    benchmarks: Iterable[str] = BENCHMARKS,
    failed=(),
    other=(),
) -> list[Path]:
    """Finished cells of a row.

    Args:
        failed: documents without an answer. other: documents that this engine answers otherwise.
    """
    return [write_cell(folder, on, row, name, *_measured(on, row, quality, name, failed, other)) for name in benchmarks]


def _measured(on: Conditions, row: Row, quality: Quality, benchmark: str, failed, other) -> tuple[dict, dict]:
    """doc_id → answer or failure, and the metrics of what is answered."""
    size = on.sizes.get(benchmark, on.population)
    results: dict[int, Answer | Failure] = {}
    scores: dict[int, float] = {}
    for doc in range(size):
        if doc in failed:
            results[doc] = Failure(kind="OutOfMemoryError", message=f"CUDA out of memory & 100 % of it, document_{doc}")
            continue
        results[doc] = _answer(on, row, quality, benchmark, doc, doc in other)
        hard = 0.35 + 0.5 * draw("document", benchmark, doc).random()
        name = "alike" if benchmark in quality.alike else f"{row.method} {row.setting}"
        noise = quality.spread * (draw("noise", on.model, name, benchmark, doc).random() - 0.5)
        share = 0.9 if benchmark in quality.alike else quality.on.get(benchmark, quality.score)
        scores[doc] = round(max(0.0, share * (hard + noise)), 4) if share else 0.0
    groups = {doc: ("ScanQA", "ALFRED", "nuscenes")[doc % 3] for doc in scores}
    if benchmark in CAPTIONS:
        metrics = {
            "cider": Scores({doc: round(2 * one, 4) for doc, one in scores.items()}, "corpus"),
            "meteor": Scores({doc: round(one / 2, 4) for doc, one in scores.items()}, "corpus", offset=0.01),
        }
    elif benchmark in UPSTREAM:
        metrics = {
            name: Scores({doc: round(factor * one, 4) for doc, one in scores.items()})
            for name, factor in UPSTREAM[benchmark].items()
        }
    elif benchmark == "MV":
        metrics = {"overall": Scores(scores, "group_mean", groups)}
    else:  # the paper's SD is several data sets
        several = on.profile == "paper" and benchmark == "SD"
        metrics = {"rouge_l": Scores(scores, "group_mean", groups) if several else Scores(scores)}
    if on.profile == "toy":
        metrics["slot_accuracy"] = Scores({doc: round(min(1.0, 1.1 * one), 4) for doc, one in scores.items()})
    return results, metrics


def _answer(on: Conditions, row: Row, quality: Quality, benchmark: str, doc: int, other: bool) -> Answer:
    asked, own = draw("asked", benchmark, doc), draw("answer", row.method, row.setting, benchmark, doc)
    words = [asked.choice(WORDS) for _ in range(4)]
    if quality.kept < 1 and own.random() < 0.4:
        words[own.randrange(4)] = own.choice(WORDS)
    text = " ".join([*words[:3], "<50 % of a_b | $x$ & c>" * (doc == 2), "otherwise" * other, words[3]]).replace(
        "  ", " "
    )
    kept = 1.0 if quality.kept == 1 else round(quality.kept + 0.04 * (own.random() - 0.5), 4)
    steps = 0 if doc == 5 and on.batch_size == 1 else 4 + asked.randrange(20)
    # samples of a batch share their times; a sample that is long is so for every row
    size, batch = on.batch_size, doc // on.batch_size
    asked_of, own_of = draw("batch", benchmark, size, batch), draw("pace", on.engine, row.setting, size, batch)
    if size > 1:
        steps = 6 + asked_of.randrange(20)
    prefill = 200 + 50 * asked_of.random() + quality.added + 0.2 * own_of.random()
    step = (20 + 2 * asked_of.random() + 0.1 * own_of.random()) / quality.faster
    times = (round(prefill, 3), round(step * steps, 3), steps)
    notes = ["image 1: CMYK made RGB"] * (benchmark == "SD" and doc in (1, 4))
    return answer(text, steps + 1 + other, 300 + asked.randrange(200), notes, kept, times, size, quality.entered)


def readings(folder: Path, on: Conditions, rise: float, benchmarks: Iterable[str] = BENCHMARKS, errors=0) -> None:
    """Attention to vision that falls and wins `rise` back."""
    means = (*GAMMA, 0.2 + rise, 0.2 + rise / 2, 0.2 + rise / 3)
    for name in benchmarks:
        lines = {}
        for doc in range(on.population - errors):
            own = draw("reading", on.model, name, doc)
            shares = [1 / 8, 1 / 8, round(0.2 + 0.1 * own.random(), 6), 1 / 8, 1 / 8]
            shares.append(1 - sum(shares))
            lines[doc] = {
                "vision_attention": [round(mean + 0.06 * (own.random() - 0.5), 6) for mean in means],
                "groups": {cut: [shares[at:] + shares[:at] for at in range(len(means))] for at, cut in enumerate(CUTS)},
                "group_tokens": {cut: [0.2, 0.2, 0.2, 0.2, 0.15, 0.05] for cut in CUTS},
            }
        write_reading(folder, on, name, lines, errors)
