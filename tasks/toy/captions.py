"""Captions of one scene: a sentence in five wordings and a long description in three.

Every wording names the objects in reading order and colour, shape, place in this order, so that a reference never
gives credit for an order of its own. The first wording is the one the model is trained to write: it opens with the
count, which can only be known by looking at every object.
"""

from __future__ import annotations

from tasks.toy.scenes import Scene, Thing

COUNTS = ("no", "one", "two", "three")
ORDINALS = ("first", "second", "third")


def _listing(parts: list[str], joiner: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {joiner} {parts[-1]}"


def counted(scene: Scene) -> str:
    number = len(scene.things)
    return f"{COUNTS[number]} object{'s' if number != 1 else ''}"


def captions(scene: Scene) -> list[str]:
    """Five one-sentence captions; the first is the model's target."""
    plain = [f"{thing.color} {thing.shape} in {thing.where}" for thing in scene.things]
    articled = [f"a {thing.color} {thing.shape} in the {thing.where}" for thing in scene.things]
    count, verb = counted(scene), "is" if len(scene.things) == 1 else "are"
    return [
        f"{count}, {_listing(plain)}",
        f"the picture shows {count}, {_listing(articled)}",
        f"{count} on a gray ground, {_listing(articled)}",
        f"here {verb} {count}, {_listing(plain, 'with')}",
        f"we see {count}, namely {_listing(articled)}",
    ]


def _sentence(template: str, ordinal: str, thing: Thing) -> str:
    return template.format(ordinal=ordinal, color=thing.color, shape=thing.shape, where=thing.where)


def descriptions(scene: Scene) -> list[str]:
    """Three descriptions of more than sixty words each; the first is the model's target."""
    count = counted(scene)
    colors = _listing([thing.color for thing in scene.things])
    shapes = _listing([thing.shape for thing in scene.things])
    places = _listing([thing.where for thing in scene.things])
    wordings = (
        (
            f"{count} lie on a plain gray ground in this simple picture.",
            "the {ordinal} object is a small {color} {shape} in the {where} of the picture.",
            "the other places of the picture are empty.",
            f"in reading order the colors are {colors}. the shapes are {shapes}. the places are {places}.",
        ),
        (
            f"this simple picture with a plain gray ground holds {count} in all.",
            "as the {ordinal} object one finds a small {color} {shape} in the {where} part.",
            "nothing else is to be seen anywhere in the picture.",
            f"from top to bottom the colors are {colors}. the shapes are {shapes}. the places are {places}.",
        ),
        (
            f"we are looking at {count} drawn on a gray ground without any texture.",
            "the {ordinal} of them is a little {color} {shape} that lies in the {where}.",
            "all the other places of the grid were left empty.",
            f"read in order the colors are {colors}. the shapes are {shapes}. the places are {places}.",
        ),
    )
    ranked = list(zip(ORDINALS, scene.things, strict=False))
    return [
        " ".join([opening, *(_sentence(each, word, thing) for word, thing in ranked), rest, summary])
        for opening, each, rest, summary in wordings
    ]
