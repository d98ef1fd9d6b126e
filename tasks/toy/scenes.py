"""What a scene is, which split it belongs to, and how it is drawn.

A scene is a set of small coloured shapes or characters on a 3 x 3 grid of named places, each of them four spots of 16
pixels: the size of one image token of a whole view. Its canonical text decides whether it belongs to the training or to
the test split, so the two can never share a scene, whoever draws them and with whatever seed.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tasks.toy.glyphs import GLYPHS

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

CHARACTERS = tuple(GLYPHS)

SIZE = 96  # pixels of a drawn scene, both ways
GRID = 3  # places per side
SPOTS = 2  # spots per side of a place
SPOT = SIZE // (GRID * SPOTS)  # pixels
TEST_SHARE = 4  # one scene in four is a test scene
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Thing:
    """One object or character. `place` is an index into PLACES, `spot` (0-3, row by row) says where in the place."""

    place: int
    color: str
    shape: str
    spot: int = 0

    @property
    def where(self) -> str:
        return PLACES[self.place]

    @property
    def cell(self) -> tuple[int, int]:
        """Row and column among the 6 x 6 spots of the picture."""
        row, column = divmod(self.place, GRID)
        return row * SPOTS + self.spot // SPOTS, column * SPOTS + self.spot % SPOTS


def thing_at(row: int, column: int, color: str, shape: str) -> Thing:
    """A thing by its row and column among the spots of the picture."""
    return Thing(row // SPOTS * GRID + column // SPOTS, color, shape, row % SPOTS * SPOTS + column % SPOTS)


@dataclass(frozen=True)
class Scene:
    """Things on distinct spots, kept in the order of their places."""

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        spots = [thing.cell for thing in self.things]
        if len(set(spots)) != len(spots):
            raise ValueError(f"two things share a spot: {self.things}")
        object.__setattr__(self, "things", tuple(sorted(self.things, key=lambda thing: (thing.place, thing.spot))))

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


def random_thing(rng: random.Random, place: int) -> Thing:
    """Colour, shape and spot drawn independently."""
    return Thing(place, rng.choice(list(COLORS)), rng.choice(SHAPES), rng.randrange(SPOTS**2))


def random_scene(rng: random.Random, count: int) -> Scene:
    """`count` things on distinct places (either split)."""
    return Scene(tuple(random_thing(rng, place) for place in rng.sample(range(len(PLACES)), count)))


def crowded_scene(rng: random.Random, count: int) -> Scene:
    """`count` things on distinct spots, no two of one colour and shape (either split)."""
    spots = rng.sample([(place, spot) for place in range(len(PLACES)) for spot in range(SPOTS**2)], count)
    looks = rng.sample([(color, shape) for color in COLORS for shape in SHAPES], count)
    return Scene(tuple(Thing(place, *look, spot) for (place, spot), look in zip(spots, looks, strict=True)))


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

    Every thing stays within its spot, so that one image token of a whole view, or four of a fine one, carry it.
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
        row, column = thing.cell
        dx, dy = noise.uniform(-1, 1, size=2)
        half = noise.uniform(6.3, 7.0)
        cx, cy = (column + 0.5) * SPOT + dx, (row + 0.5) * SPOT + dy
        fill = tuple(int(v) for v in np.clip(np.array(COLORS[thing.color]) + noise.integers(-10, 11, size=3), 0, 255))
        box = (cx - half, cy - half, cx + half, cy + half)
        if thing.shape in GLYPHS:
            left, top = round(cx) - 5, round(cy) - 7
            for x, y in GLYPHS[thing.shape]:
                pen.rectangle((left + 2 * x, top + 2 * y, left + 2 * x + 1, top + 2 * y + 1), fill=fill)
        elif thing.shape == "circle":
            pen.ellipse(box, fill=fill)
        elif thing.shape == "ring":
            pen.ellipse(box, outline=fill, width=3)
        else:
            pen.polygon(_outline(thing.shape, cx, cy, half), fill=fill)
    return image
