"""What the toy's test images show and what the answer to them is about, found by their pixels."""

from __future__ import annotations

from functools import cache

import numpy as np

from plphp_core.evaluation.encoding import pixels_sha256
from plphp_core.families import get_family
from tasks.toy.generate import SEED, image_seed, test_samples
from tasks.toy.samples import BENCHMARKS, Cell
from tasks.toy.scenes import GRID, SPOTS, draw
from tasks.toy.sizes import SIDE

SPOTS_PER_SIDE = GRID * SPOTS
SAMPLES = 48  # of each benchmark, as `python -m tasks.toy.generate` draws them by default


@cache
def answers_about(samples: int = SAMPLES) -> dict[tuple[str, ...], tuple[frozenset[Cell], ...]]:
    """The hashes of a test sample's images, as runs name them → per image, the spots that the answer tells of.

    Some families hand re-encoded images to the model: their hashes lead to the same spots.
    """
    families = [get_family(name) for name in ("llava_onevision", "qwen2_vl")]
    found = {}
    for benchmark in BENCHMARKS:
        for row, sample in enumerate(test_samples(benchmark, samples)):
            images = [draw(scene, image_seed(SEED, benchmark, row, i)) for i, scene in enumerate(sample.scenes)]
            for family in families:
                found[tuple(map(pixels_sha256, family.images(images)))] = sample.about
    return found


def token_spots(tokens: int) -> np.ndarray:
    """The spot (0-35, row by row) that each of an image's `tokens` shows, −1 for newlines.

    Raises:
        ValueError: no toy makes so many tokens of an image.
    """
    whole = np.arange(SPOTS_PER_SIDE**2)
    fine = np.kron(whole.reshape(SPOTS_PER_SIDE, -1), np.ones((2, 2), dtype=whole.dtype))
    rows = np.concatenate((fine, np.full((2 * SPOTS_PER_SIDE, 1), -1)), axis=1)
    known = {SIDE**2: whole, SIDE**2 + 1: np.append(whole, -1), SIDE**2 + rows.size: np.append(whole, rows.ravel())}
    if tokens not in known:
        raise ValueError(f"an image of {tokens} tokens, but the toys make {', '.join(map(str, known))}")
    return known[tokens]
