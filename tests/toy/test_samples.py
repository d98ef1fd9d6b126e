"""Scenes, samples and slot accuracy: disjoint splits, determinism, lengths, and a metric that templates cannot fool."""

import random

import numpy as np
import pytest

from tasks.toy.changes import random_change
from tasks.toy.generate import image_seed, test_samples
from tasks.toy.samples import BENCHMARKS, SUB_TASKS, make_sample, make_samples
from tasks.toy.scenes import CHARACTERS, COLORS, PLACES, SHAPES, SPOT, Scene, Thing, draw, random_scene
from tasks.toy.slots import slot_accuracy, slots

REFERENCE = "red circle in north turned blue"


def test_training_samples_never_hold_a_test_scene():
    tested = {scene for benchmark in BENCHMARKS for sample in test_samples(benchmark) for scene in sample.scenes}
    assert all(scene.split() == "test" for scene in tested)
    for benchmark, names in SUB_TASKS.items():
        for name in names:
            rng = random.Random(7)
            for _ in range(20):
                assert tested.isdisjoint(make_sample(benchmark, name, rng, "train").scenes)


def test_split_depends_on_the_scene_alone():
    things = (Thing(4, "red", "ring"), Thing(0, "blue", "cross"))
    assert Scene(things) == Scene(things[::-1])
    assert Scene(things).split() == Scene(things[::-1]).split()
    shares = [random_scene(random.Random(i), 2).split() == "test" for i in range(800)]
    assert 0.15 < sum(shares) / len(shares) < 0.35


def test_samples_and_images_are_deterministic():
    for benchmark in BENCHMARKS:
        assert list(make_samples(benchmark, 6, "a", "test")) == list(make_samples(benchmark, 6, "a", "test"))
        assert list(make_samples(benchmark, 6, "a", "test")) != list(make_samples(benchmark, 6, "b", "test"))
    scene = random_scene(random.Random(0), 3)
    assert draw(scene, 5).tobytes() == draw(scene, 5).tobytes()
    assert draw(scene, 5).tobytes() != draw(scene, 6).tobytes()
    assert image_seed("x", 1) != image_seed("x", 2)


def test_every_test_sample_is_new():
    for benchmark in BENCHMARKS:
        drawn = [(s.scenes, s.question, s.turns) for s in test_samples(benchmark)]
        assert len(drawn) in (48, 50) and len(set(drawn)) == len(drawn)


def test_a_change_is_the_only_difference():
    for i in range(200):
        rng = random.Random(i)
        before = random_scene(rng, 3)
        after, change = random_change(rng, before)
        gone, new = set(before.things) - set(after.things), set(after.things) - set(before.things)
        assert (len(gone), len(new)) == {"add": (0, 1), "remove": (1, 0)}.get(change.kind, (1, 1))
        assert change.thing in (new if change.kind == "add" else gone)
        if change.value:
            (thing,) = new
            assert change.value in (thing.color, thing.shape, thing.where)


def test_answers_tell_of_things_on_the_spots_they_are_about():
    """Every content word of the answer belongs to a thing on one of these spots, or names a change."""
    for benchmark in ("finding", "reading", "long", "vst", "flickr30k"):
        for sample in make_samples(benchmark, 24, "about", "train"):
            assert len(sample.about) == len(sample.scenes)
            seen = [
                t for s, spots in zip(sample.scenes, sample.about, strict=True) for t in s.things if t.cell in spots
            ]
            assert set(slots(sample.answer)) <= {word for t in seen for word in (t.color, t.shape, t.where)}
            assert sum(map(len, sample.about)) == len(seen)
    for sample in make_samples("sd", 24, "about", "train"):
        if sample.sub_task != "Birds-to-Words":
            before, after = (set(scene.things) for scene in sample.scenes)
            assert {thing.cell for thing in before ^ after} == sample.about[0] == sample.about[1]


def test_characters_of_a_picture_come_once_and_lines_differ_in_colour():
    for sample in make_samples("reading", 20, "lines", "train"):
        things = sample.scenes[0].things
        assert len({thing.shape for thing in things}) == len(things) and {t.shape for t in things} <= set(CHARACTERS)
        assert len({thing.color for thing in things}) == len({thing.cell[0] for thing in things}) == 3
        assert [t.shape for t in sorted(things, key=lambda t: t.cell) if t.cell in sample.about[0]] == slots(
            sample.answer
        )


def test_a_thing_stays_within_its_spot():
    """So an image token of the whole view, or four of a fine one, carry it whole."""
    for seed in range(20):
        rng = random.Random(seed)
        thing = random_scene(rng, 1).things[0]
        pixels = np.asarray(draw(Scene((thing,)), seed)).astype(int)
        empty = np.asarray(draw(Scene(()), seed)).astype(int)
        rows, columns = np.nonzero(np.abs(pixels - empty).max(axis=2))
        row, column = (SPOT * index for index in thing.cell)
        assert row - 1 <= rows.min() and rows.max() <= row + SPOT and column - 1 <= columns.min()
        assert columns.max() <= column + SPOT


@pytest.mark.parametrize("split", ["train", "test"])
def test_long_captions_are_long(split):
    for sample in make_samples("detailcaps", 10, "long", split):
        assert all(len(reference.split()) >= 60 for reference in sample.references)


@pytest.mark.parametrize("make, said", [
    (lambda: make_sample("sd", "VIST", random.Random(0), "train"), "unknown sub-task 'sd'/'VIST'"),
    (lambda: make_sample("sd", "CLEVR-Change", random.Random(0), "dev"), "unknown split 'dev'"),
    (lambda: Scene((Thing(1, "red", "ring"), Thing(1, "blue", "ring"))), "share a spot"),
])  # fmt: skip
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("text, found", [
    ("Red circle, in the north TURNED blue!", ["red", "circle", "north", "turned", "blue"]),
    (" B", ["B"]), ("C. red", ["C", "red"]), ("A red circle", ["red", "circle"]),
    ("two objects on a gray ground", []),
])  # fmt: skip
def test_slots_are_the_words_that_must_be_seen(text, found):
    assert slots(text) == found


@pytest.mark.parametrize("answer, references, score", [
    (REFERENCE, [REFERENCE], 1), ("red circle north turned blue", [REFERENCE], 1),
    ("red circle in north turned cyan", [REFERENCE], 0.8), ("red circle", [REFERENCE], 0.4), ("", [REFERENCE], 0),
    ("a thing in a place became something", [REFERENCE], 0), (" ".join([REFERENCE] * 4), [REFERENCE], 0.25),
    ("cyan", ["green", "cyan"], 1),
])  # fmt: skip
def test_slot_accuracy_of_right_wrong_short_and_long_answers(answer, references, score):
    assert slot_accuracy(answer, references) == pytest.approx(score)


def test_slot_accuracy_needs_a_reference():
    with pytest.raises(ValueError, match="at least one reference"):
        slot_accuracy("red", [])


def test_all_wordings_of_a_caption_are_equally_right():
    for benchmark in ("flickr30k", "detailcaps"):
        for sample in make_samples(benchmark, 5, "wordings", "train"):
            for reference in sample.references:
                assert slot_accuracy(reference, [sample.answer]) == 1.0


def test_answers_to_other_samples_score_near_chance():
    """The right answer to another sample of the same sub-task: everything a model could know without its images."""
    for benchmark, names in SUB_TASKS.items():
        drawn = list(make_samples(benchmark, 60 * len(names), "chance", "test"))
        by_task = {name: [s for s in drawn if s.sub_task == name] for name in names}
        scores = [
            slot_accuracy(group[i - 1].answer, list(sample.references))
            for group in by_task.values()
            for i, sample in enumerate(group)
        ]
        assert sum(scores) / len(scores) <= 1 / 3, benchmark


def test_a_constant_answer_scores_near_chance():
    constant = f"{next(iter(COLORS))} {SHAPES[0]} in {PLACES[0]} turned {list(COLORS)[1]}"
    for benchmark in BENCHMARKS:
        drawn = test_samples(benchmark)
        assert sum(slot_accuracy(constant, list(s.references)) for s in drawn) / len(drawn) < 0.25
