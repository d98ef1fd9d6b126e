"""What a scene is, which split it belongs to, and how it is drawn.

A scene is a set of coloured shapes on a 3 x 3 grid of named places. Its canonical text decides whether it belongs to
the training or to the test split, so the two can never share a scene, whoever draws them and with whatever seed.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (218, 38, 38),
    "green": (36, 160, 60),
    "blue": (45, 75, 225),
    "yellow": (238, 214, 40),
    "purple": (150, 50, 185),
    "cyan": (50, 200, 215),
    "black": (22, 22, 22),
    "white": (248, 248, 248),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
PLACES = ("northwest", "north", "northeast", "west", "center", "east", "southwest", "south", "southeast")

SIZE = 96  # pixels of a drawn scene, both ways
GRID = 3
CELL = SIZE // GRID
TEST_SHARE = 4  # one scene in four is a test scene
SPLITS = ("train", "test")


@dataclass(frozen=True, order=True)
class Thing:
    """One object. `place` is an index into PLACES, so that things sort in reading order."""

    place: int
    color: str
    shape: str

    @property
    def where(self) -> str:
        return PLACES[self.place]


@dataclass(frozen=True)
class Scene:
    """Objects on distinct places, kept in reading order."""

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        places = [thing.place for thing in self.things]
        if len(set(places)) != len(places):
            raise ValueError(f"two things share a place: {self.things}")
        object.__setattr__(self, "things", tuple(sorted(self.things)))

    def canonical(self) -> str:
        """The text that names this scene: equal for equal scenes, however they were built."""
        return " | ".join(f"{thing.where} {thing.color} {thing.shape}" for thing in self.things)

    def split(self) -> str:
        """`"train"` or `"test"`, decided by the scene alone."""
        digest = hashlib.sha256(self.canonical().encode()).digest()
        return "test" if int.from_bytes(digest[:4], "big") % TEST_SHARE == 0 else "train"

    def free_places(self) -> list[int]:
        taken = {thing.place for thing in self.things}
        return [place for place in range(len(PLACES)) if place not in taken]


def random_scene(rng: random.Random, count: int) -> Scene:
    """`count` things on distinct places, colours and shapes drawn independently (either split)."""
    places = rng.sample(range(len(PLACES)), count)
    return Scene(tuple(Thing(place, rng.choice(list(COLORS)), rng.choice(SHAPES)) for place in places))


def _outline(shape: str, cx: float, cy: float, half: float) -> list[tuple[float, float]]:
    if shape == "square":
        s = half * 0.88
        return [(cx - s, cy - s), (cx + s, cy - s), (cx + s, cy + s), (cx - s, cy + s)]
    if shape == "triangle":
        return [(cx, cy - half), (cx + half, cy + half * 0.85), (cx - half, cy + half * 0.85)]
    if shape == "diamond":
        return [(cx, cy - half), (cx + half, cy), (cx, cy + half), (cx - half, cy)]
    if shape == "cross":
        a, b = half, half * 0.36
        corners = [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b), (-a, -b)]
        return [(cx + x, cy + y) for x, y in [*corners, (-b, -b)]]
    raise ValueError(f"no outline for shape {shape!r}; known shapes: {', '.join(SHAPES)}")


def draw(scene: Scene, seed: int) -> Image.Image:
    """The scene as a SIZE x SIZE RGB image; `seed` sets the background tone, noise, jitter and size only.

    Objects fill most of their cell, so that dozens of patches carry each of them.
    """
    noise = np.random.default_rng(seed)
    tone = noise.integers(118, 176)
    slope = noise.uniform(-14, 14, size=2)
    ramp = np.linspace(-0.5, 0.5, SIZE)
    plane = tone + slope[0] * ramp[:, None] + slope[1] * ramp[None, :] + noise.normal(0, 3, size=(SIZE, SIZE))
    background = plane[..., None] + noise.uniform(-6, 6, size=3)
    image = Image.fromarray(np.clip(background, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        row, column = divmod(thing.place, GRID)
        dx, dy = noise.uniform(-1.5, 1.5, size=2)
        half = noise.uniform(12.5, 14.5)
        cx, cy = (column + 0.5) * CELL + dx, (row + 0.5) * CELL + dy
        fill = tuple(int(v) for v in np.clip(np.array(COLORS[thing.color]) + noise.integers(-10, 11, size=3), 0, 255))
        box = (cx - half, cy - half, cx + half, cy + half)
        if thing.shape == "circle":
            pen.ellipse(box, fill=fill)
        elif thing.shape == "ring":
            pen.ellipse(box, outline=fill, width=5)
        else:
            pen.polygon(_outline(thing.shape, cx, cy, half), fill=fill)
    return image
