"""What the last prompt token of one sample attends to, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor

from plphp_core.decoding.shared_prefill import SharedPrefill
from plphp_core.evaluation.loading import LoadedModel
from plphp_core.pruning.validation import require
from plphp_core.records.journal_lines import AttentionReading
from plphp_core.vision.spatial_groups import CUTS, group_masses, group_of
from plphp_core.vision.token_geometry import nowhere

DIGITS = 6


def prefill_to_look_at(loaded: LoadedModel, inputs: dict) -> SharedPrefill:
    """The prefill of one sample with images.

    Raises:
        ValueError: it has no image.
    """
    shared = SharedPrefill(loaded.model, inputs)
    require(bool(shared.views), "this sample has no image, so there is no attention to vision")
    return shared


def places(loaded: LoadedModel, inputs: dict, images: list[list]) -> list[Tensor]:
    """Boxes of each image's tokens, `(S_j, 4)`; nan where the family's tokens have no place of their own."""
    boxes = loaded.family.token_boxes(loaded.model, inputs, images)
    return boxes if loaded.family.located else [nowhere(len(one)) for one in boxes]


@torch.inference_mode()
def read(loaded: LoadedModel, inputs: dict, shown: list[list]) -> AttentionReading:
    """Prefill one sample and read it.

    Args:
        inputs: of a batch of one, on the model's device.
        shown: its images, as the processor was given them.

    Raises:
        ValueError: it has no image, or cannot be followed (`prune`).
    """
    shared = prefill_to_look_at(loaded, inputs)
    images = shared.prompt.images[0]
    views = [shared.views[layer] for layer in sorted(shared.views)]
    rows = torch.stack([view.last_row[0].mean(0).cpu() for view in views])[:, torch.cat(images)]
    gamma = rows.sum(-1)
    boxes = places(loaded, inputs, shown)
    shares, tokens = {}, {}
    for cut in CUTS:
        groups = torch.cat([group_of(one, cut) for one in boxes])
        shares[cut] = _rounded(group_masses(rows, groups) / gamma.clamp(min=1e-12)[:, None])
        tokens[cut] = _rounded(group_masses(torch.full((len(groups),), 1 / len(groups)), groups))
    return AttentionReading(
        prompt_tokens=shared.prompt.lengths[0],
        image_sizes=[len(image) for image in images],
        vision_attention=_rounded(gamma),
        groups=shares,
        group_tokens=tokens,
    )


def _rounded(values: Tensor) -> list:
    if values.ndim > 1:
        return [_rounded(one) for one in values]
    return [round(value, DIGITS) for value in values.double().tolist()]
