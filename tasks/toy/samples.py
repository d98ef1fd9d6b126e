"""Samples of the toy benchmarks: which scenes, what is asked, what is right. Seven of the paper's, three where the
answer must be looked up in many places of the picture (`reading`, `finding`, `long`).

The generator draws test samples from here and the trainer draws training samples; `split` is the only difference.
Every scene of a sample belongs to the sample's split.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.toy.captions import ORDINALS, captions, descriptions
from tasks.toy.changes import random_change
from tasks.toy.scenes import (
    CHARACTERS,
    COLORS,
    GRID,
    PLACES,
    SHAPES,
    SPLITS,
    SPOTS,
    Scene,
    Thing,
    crowded_scene,
    random_scene,
    thing_at,
)

CAPTION_PROMPT = "Provide a one-sentence caption for the provided image."
DETAIL_PROMPT = "Describe this image in detail."
LETTERS = "ABC"

Turn = tuple[str, str]  # ("human" or "gpt", text)
Cell = tuple[int, int]  # row and column of a spot


@dataclass(frozen=True)
class Sample:
    """One question. `turns` is set for multi-view only, where it holds the conversation and `question` is empty."""

    benchmark: str
    sub_task: str
    scenes: tuple[Scene, ...]
    question: str
    references: tuple[str, ...]
    turns: tuple[Turn, ...] = ()
    multiple_choice: bool = False
    about: tuple[frozenset[Cell], ...] = ()  # per scene, the spots that the answer tells of

    @property
    def answer(self) -> str:
        """What the model is trained to say."""
        return self.references[0]


def _seen(scenes: Sequence[Scene], things: Sequence[Thing]) -> tuple[set[Cell], ...]:
    """Where the things are, per scene."""
    return tuple({thing.cell for thing in scene.things if thing in things} for scene in scenes)


def _pair(question: str, say: Callable, count: int) -> Callable[[random.Random], tuple]:
    def make(rng: random.Random) -> tuple:
        before = random_scene(rng, count)
        after, change = random_change(rng, before)
        changed = {thing.cell for thing in set(before.things) ^ set(after.things)}
        return (before, after), question, say(change), (changed, changed)

    return make


def _birds(rng: random.Random) -> tuple:
    first, second = random_scene(rng, 1), random_scene(rng, 1)
    one, two = first.things[0], second.things[0]
    question = "Left picture <image> right picture <image> What is in the left and what in the right picture?"
    return (first, second), question, f"{one.color} {one.shape} in left but {two.color} {two.shape} in right"


def _frames(rng: random.Random, field: str, choices: list, count: int) -> tuple[Scene, ...]:
    """`count` frames of one thing whose `field` takes a different value in each."""
    thing = random_scene(rng, 1).things[0]
    return tuple(Scene((replace(thing, **{field: value}),)) for value in rng.sample(choices, count))


FRAMES = "A story in {n} frames. {frames} Tell it frame after frame: {ask}"


def _story(n: int, ask: str) -> str:
    words = ("first", "second", "third", "last")
    names = words[: n - 1] + words[-1:]
    return FRAMES.format(n=("three", "four")[n - 3], frames=" ".join(f"{w} <image>" for w in names), ask=ask)


def _walk(rng: random.Random) -> tuple:
    frames = _frames(rng, "place", list(range(len(PLACES))), 3)
    thing = frames[0].things[0]
    path = " then ".join(frame.things[0].where for frame in frames)
    return frames, _story(3, "where does the object go?"), f"{thing.color} {thing.shape} goes {path}"


def _chameleon(rng: random.Random) -> tuple:
    frames = _frames(rng, "color", list(COLORS), 3)
    thing = frames[0].things[0]
    path = " then ".join(frame.things[0].color for frame in frames)
    return frames, _story(3, "which colors does the object take?"), f"{thing.shape} in {thing.where} is {path}"


def _parade(rng: random.Random) -> tuple:
    frames = tuple(random_scene(rng, 1) for _ in range(4))
    path = " then ".join(f"{frame.things[0].color} {frame.things[0].shape}" for frame in frames)
    return frames, _story(4, "which objects come by?"), path


def _shapeshifter(rng: random.Random) -> tuple:
    frames = _frames(rng, "shape", list(SHAPES), 3)
    thing = frames[0].things[0]
    path = " then ".join(frame.things[0].shape for frame in frames)
    return frames, _story(3, "which shapes does the object take?"), f"{thing.color} in {thing.where} is {path}"


def _views(rng: random.Random) -> tuple[Scene, ...]:
    """Three views with one thing each; colours, shapes and places all differ, so any of them names the thing."""
    rows = zip(rng.sample(range(len(PLACES)), 3), rng.sample(list(COLORS), 3), rng.sample(SHAPES, 3), strict=True)
    return tuple(Scene((Thing(*row),)) for row in rows)


VIEWS = "Three views of one room. First view <image> second view <image> third view <image>\n"
CAMERAS = "<image>\n<image>\n<image>\nThree cameras, each sees one object.\n"


def _ask(rng: random.Random, thing: Thing) -> tuple[str, str]:
    return rng.choice(
        [
            (f"What is the color of the {thing.shape}?", thing.color),
            (f"What is the shape of the {thing.color} object?", thing.shape),
            (f"Where is the {thing.color} {thing.shape}?", thing.where),
        ]
    )


def _scan_qa(rng: random.Random) -> tuple:
    views = _views(rng)
    asked = rng.choice(views).things[0]
    question, answer = _ask(rng, asked)
    text = f"{VIEWS}Answer with a single word. {question}"
    return views, (("human", text),), answer, _seen(views, [asked])


def _scan_chat(rng: random.Random) -> tuple:
    views = _views(rng)
    one, two = (view.things[0] for view in rng.sample(views, 2))
    first, second = _ask(rng, one), _ask(rng, two)
    opening = f"{CAMERAS}Answer with a single word. {first[0]}"
    return views, (("human", opening), ("gpt", first[1]), ("human", second[0])), second[1], _seen(views, [two])


def _alfred(rng: random.Random) -> tuple:
    views = _views(rng)
    which = rng.randrange(3)
    thing = views[which].things[0]
    ask = f"Robot, fetch the object that the {ORDINALS[which]} view shows. What is your plan?"
    return (
        views,
        (("human", VIEWS + ask),),
        f"go {thing.where} and take {thing.color} {thing.shape}",
        _seen(views, [thing]),
    )


def _choice(opening: str, asked: str, options: str, which: Callable[[int], int]) -> Callable[[random.Random], tuple]:
    """In which row or column of its picture a thing is. The options' order is fixed: no toy learned to look them up."""

    def make(rng: random.Random) -> tuple:
        views = _views(rng)
        thing = rng.choice(views).things[0]
        question = f"Where is the {asked.format(color=thing.color, shape=thing.shape)}?"
        text = f"{opening}{question}\n{options}\nAnswer with the letter of the right option."
        return views, (("human", text),), LETTERS[which(thing.place)], _seen(views, [thing])

    return make


def _column(place: int) -> int:
    return place % GRID


def _row(place: int) -> int:
    return place // GRID


_SPOT = "First picture <image> second picture <image> Compare them place by place: what has changed?"
_CLEVR = "A table before <image> and after <image> somebody touched it. Which object was touched and what happened?"
_IEDIT = "<image>\n<image>\nWrite the edit instruction which turns the source picture into the target picture."
_HQ = "Source picture <image> Target picture <image> What would you tell an editor to do?"
_MAGIC = "The picture before the edit is <image> and after the edit is <image> What is the edit instruction?"


def _difference(change) -> str:
    return change.difference()


def _instruction(change) -> str:
    return change.instruction()


def _lines(rng: random.Random) -> tuple[Scene, list[tuple[Thing, ...]]]:
    """A picture with three lines of three or four characters, and the lines from top to bottom.

    No character comes twice, and every line has a colour of its own.
    """
    side = GRID * SPOTS
    characters, lines = rng.sample(CHARACTERS, len(CHARACTERS)), []
    for row, color in zip(sorted(rng.sample(range(side), 3)), rng.sample(list(COLORS), 3), strict=True):
        length = rng.choice((3, 4))
        start = rng.randrange(side - length + 1)
        lines.append(tuple(thing_at(row, start + i, color, characters.pop()) for i in range(length)))
    return Scene(tuple(thing for line in lines for thing in line)), lines


def _said(line: Sequence[Thing]) -> str:
    return " ".join(thing.shape for thing in line)


def _read_all(rng: random.Random) -> tuple:
    scene, lines = _lines(rng)
    return scene, "Read all lines from top to bottom.", ", ".join(map(_said, lines))


def _read_one(rng: random.Random) -> tuple:
    scene, lines = _lines(rng)
    line = rng.choice(lines)
    return scene, f"What does the {line[0].color} line say?", _said(line), _seen([scene], line)


CROWD = 12


def _find(question: str, asked: str, given: tuple[str, ...]) -> Callable[[random.Random], tuple]:
    """One thing of a dozen: its `asked` field, by the fields that tell it from all others."""

    def make(rng: random.Random) -> tuple:
        while True:
            scene = crowded_scene(rng, CROWD)
            thing = rng.choice(scene.things)
            alike = [t for t in scene.things if all(getattr(t, field) == getattr(thing, field) for field in given)]
            if len(alike) == 1:
                told = question.format(color=thing.color, shape=thing.shape, where=thing.where)
                return scene, told, getattr(thing, asked), _seen([scene], [thing])

    return make


FULL = 7


def _tour(rng: random.Random) -> tuple:
    """Two places stay empty, so that the places too must be seen."""
    scene = random_scene(rng, FULL)
    told = ", ".join(f"in the {t.where} of the picture there is a {t.color} {t.shape}" for t in scene.things)
    return scene, "Describe every place of the picture.", told


_INTERLEAVE: dict[str, dict[str, Callable]] = {
    "sd": {
        "Spot-the-Diff": _pair(_SPOT, _difference, 2),
        "Birds-to-Words": _birds,
        "CLEVR-Change": _pair(_CLEVR, _difference, 3),
    },
    "ie": {
        "IEdit": _pair(_IEDIT, _instruction, 2),
        "HQ-Edit": _pair(_HQ, _instruction, 3),
        "MagicBrush": _pair(_MAGIC, _instruction, 2),
    },
    "vst": {"AESOP": _walk, "FlintstonesSV": _chameleon, "PororoSV": _parade, "VIST": _shapeshifter},
}
_MULTI_VIEW: dict[str, Callable] = {
    "ScanQA": _scan_qa,
    "ALFRED": _alfred,
    "nuscenes": _choice(CAMERAS, "{shape}", "A. west B. center C. east", _column),
    "ScanNet_chat": _scan_chat,
    "ScanNet_task": _choice(VIEWS, "{color} object", "A. north B. center C. south", _row),
}
_CAPTIONS: dict[str, tuple[str, Callable, tuple[int, ...]]] = {
    "flickr30k": (CAPTION_PROMPT, captions, (1, 2, 3)),
    "coco2017": (CAPTION_PROMPT, captions, (2, 3)),
    "detailcaps": (DETAIL_PROMPT, descriptions, (2, 3)),
}

_LOOKING: dict[str, dict[str, Callable]] = {
    "reading": {"all": _read_all, "one": _read_one},
    "finding": {
        "color": _find("What is the color of the {shape} in the {where}?", "color", ("shape", "where")),
        "shape": _find("What is the shape of the {color} object in the {where}?", "shape", ("color", "where")),
        "place": _find("Where is the {color} {shape}?", "where", ("color", "shape")),
    },
    "long": {"tour": _tour},
}

SUB_TASKS: dict[str, tuple[str, ...]] = {
    **{benchmark: tuple(makers) for benchmark, makers in _INTERLEAVE.items()},
    "mv": tuple(_MULTI_VIEW),
    **{benchmark: (benchmark,) for benchmark in _CAPTIONS},
    **{benchmark: tuple(makers) for benchmark, makers in _LOOKING.items()},
}
BENCHMARKS = tuple(SUB_TASKS)


def make_sample(benchmark: str, sub_task: str, rng: random.Random, split: str) -> Sample:
    """One sample whose scenes all belong to `split`, by rejection.

    Raises ValueError for an unknown benchmark, sub-task or split.
    """
    if benchmark not in SUB_TASKS or sub_task not in SUB_TASKS[benchmark]:
        raise ValueError(f"unknown sub-task {benchmark!r}/{sub_task!r}; known: {SUB_TASKS}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {SPLITS}")
    while True:
        sample = _draw(benchmark, sub_task, rng)
        if all(scene.split() == split for scene in sample.scenes):
            return sample


def _draw(benchmark: str, sub_task: str, rng: random.Random) -> Sample:
    if benchmark in _CAPTIONS:
        prompt, write, counts = _CAPTIONS[benchmark]
        scene = random_scene(rng, rng.choice(counts))
        return _sample(benchmark, sub_task, (scene,), prompt, tuple(write(scene)))
    if benchmark == "mv":
        scenes, turns, answer, about = _MULTI_VIEW[sub_task](rng)
        return _sample(
            benchmark, sub_task, scenes, "", (answer,), about, turns=turns, multiple_choice=answer in LETTERS
        )
    scenes, question, answer, *about = (_INTERLEAVE | _LOOKING)[benchmark][sub_task](rng)
    return _sample(benchmark, sub_task, scenes if isinstance(scenes, tuple) else (scenes,), question, (answer,), *about)


def _sample(benchmark: str, sub_task: str, scenes: tuple[Scene, ...], *said: Any, **more: Any) -> Sample:
    question, references, *about = said
    found = about[0] if about else _seen(scenes, [thing for scene in scenes for thing in scene.things])
    return Sample(benchmark, sub_task, scenes, question, references, about=tuple(map(frozenset, found)), **more)


def make_samples(benchmark: str, count: int, seed: str, split: str) -> Iterator[Sample]:
    """`count` different samples, the sub-tasks in turn. Deterministic in (benchmark, count, seed, split)."""
    rng = random.Random(f"{benchmark}/{split}/{seed}")
    seen: set[tuple] = set()
    names = SUB_TASKS[benchmark]
    while len(seen) < count:
        sample = make_sample(benchmark, names[len(seen) % len(names)], rng, split)
        key = (sample.scenes, sample.question, sample.turns)
        if key not in seen:
            seen.add(key)
            yield sample
