"""What a prefill and a decode cost: wall time inside `generate()`, and operations by FastV's count."""

import time
from typing import Any

import torch
from transformers import StoppingCriteria

from plphp_core.decoding.device import synchronise


class StepClock(StoppingCriteria):
    """Stops nothing; notes when each token is there. Pass it in `stopping_criteria=[StepClock()]`, a new one per call.

    The device is synchronised at every step, so that a step's work is counted in that step.

    Attributes:
        prefill_ms: from construction to the first token: image encoding, prefill, scoring and the first choice.
        decode_ms: from the first token to the last.
        decode_steps: forward passes after the prefill.
    """

    def __init__(self) -> None:
        self.started = self.first = self.last = time.perf_counter()
        self.steps = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor, **kwargs: Any) -> torch.BoolTensor:
        synchronise(input_ids.device)
        self.last = time.perf_counter()
        self.first = self.last if self.steps == 0 else self.first
        self.steps += 1
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    @property
    def prefill_ms(self) -> float:
        return (self.first - self.started) * 1e3

    @property
    def decode_ms(self) -> float:
        return (self.last - self.first) * 1e3

    @property
    def decode_steps(self) -> int:
        return max(self.steps - 1, 0)


def layer_flops(tokens: int, hidden: int, intermediate: int) -> int:
    """Operations of one decoder layer over `tokens` tokens, as FastV counts them (arXiv 2403.06764, section 4.3).

    4nd² + 2n²d + 2ndm: projections, attention, and a feed-forward block of two matrices.
    """
    return 4 * tokens * hidden**2 + 2 * tokens**2 * hidden + 2 * tokens * hidden * intermediate
