"""One change between two scenes, said in two ways: as a difference (SD) and as an instruction (IE)."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tasks.toy.scenes import COLORS, PLACES, SHAPES, Scene, Thing, random_thing

KINDS = ("recolor", "reshape", "add", "remove", "move")


@dataclass(frozen=True)
class Change:
    """`thing` as it was before (after, for an addition); `value` is the new colour, shape or place, if any."""

    kind: str
    thing: Thing
    value: str = ""

    def difference(self) -> str:
        """What a viewer of both pictures says: the thing first, then what became of it."""
        said = {
            "recolor": f"turned {self.value}",
            "reshape": f"became {self.value}",
            "add": "appeared",
            "remove": "vanished",
            "move": f"moved to {self.value}",
        }[self.kind]
        return f"{self.thing.color} {self.thing.shape} in {self.thing.where} {said}"

    def instruction(self) -> str:
        """What an editor must be told to get the second picture from the first."""
        named = f"{self.thing.color} {self.thing.shape}"
        if self.kind == "move":
            return f"move {named} from {self.thing.where} to {self.value}"
        tail = f" to {self.value}" if self.value else ""
        return f"{self.kind} {named} in {self.thing.where}{tail}"


def random_change(rng: random.Random, before: Scene) -> tuple[Scene, Change]:
    """The scene after one uniformly drawn kind of change, and the change.

    Raises ValueError if `before` has fewer than two things (a removal would leave nothing to see).
    """
    if len(before.things) < 2:
        raise ValueError(f"a scene with at least two things is needed, got {len(before.things)}")
    kind = rng.choice(KINDS)
    if kind == "add":
        thing = random_thing(rng, rng.choice(before.free_places()))
        return Scene((*before.things, thing)), Change(kind, thing)
    thing = rng.choice(before.things)
    others = tuple(other for other in before.things if other != thing)
    if kind == "remove":
        return Scene(others), Change(kind, thing)
    if kind == "recolor":
        value = rng.choice([color for color in COLORS if color != thing.color])
        return Scene((*others, replace(thing, color=value))), Change(kind, thing, value)
    if kind == "reshape":
        value = rng.choice([shape for shape in SHAPES if shape != thing.shape])
        return Scene((*others, replace(thing, shape=value))), Change(kind, thing, value)
    place = rng.choice(before.free_places())
    return Scene((*others, replace(thing, place=place))), Change(kind, thing, PLACES[place])
