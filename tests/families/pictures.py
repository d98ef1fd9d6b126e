"""Images drawn from a seed, what a prune block saw of them, and a conversation about two."""

import json

import torch
from PIL import Image

from plphp_core import PLPHP, prune

# As Multi-View's documents have it.
TURNS = json.dumps(
    [
        {"from": "human", "value": "<image><image>\nWhere?"},
        {"from": "gpt", "value": "There."},
        {"from": "human", "value": "Why?"},
    ]
)


def picture(width, height, seed=0):
    pixels = torch.randint(0, 255, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.numpy())


def spans(model, inputs, call="generate", **options):
    """Prompt positions of each sample's images, as the trace has them after a `generate()` or a plain forward."""
    with torch.no_grad(), prune(model, PLPHP()) as trace:
        if call == "generate":
            model.generate(**inputs, max_new_tokens=1, do_sample=False, **options)
        else:
            model(**inputs)
    return [[image.tolist() for image in images] for images in trace.images]


def positions(ids, token):
    """Where `token` is, per row of `ids`."""
    return [(row == token).nonzero().flatten().tolist() for row in ids]
