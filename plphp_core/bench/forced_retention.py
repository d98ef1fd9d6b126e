"""How many tokens every layer keeps, decided without trained weights."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from plphp_core.bench.decoder_shapes import DecoderShape, build, prompts
from plphp_core.decoding.fast_generate import prefill
from plphp_core.pruning.hf import attending_by, register_attention
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method, make_method
from plphp_core.pruning.plphp import FIRST_PRUNED_LAYER, PLPHP
from plphp_core.pruning.selection import Selection, sample_counts
from plphp_core.pruning.trace import LayerRecord
from plphp_core.pruning.view import LayerView
from plphp_core.records.errors import UserError

NOTHING = "plphp_bench_nothing"
FORCED = ("r", "delta_r")  # what can be forced of PLPHP; its thresholds need a trained model's attention


@dataclass(frozen=True)
class ForcedPLPHP(PLPHP):
    """PLPHP whose layers are balanced, attentive and indifferent in turn, whatever they attend to.

    So the mean rate over the pruned layers is r, up to one layer. Everything else, scoring included, is PLPHP's own.
    """

    name: ClassVar[str] = "plphp"

    def __str__(self) -> str:
        return f"PLPHP(r={self.r}, delta_r={self.delta_r}), forced"

    def rate(self, layer: int) -> float:
        """Retention rate of `layer`, one of those that are pruned."""
        offset = (0.0, self.delta_r, -self.delta_r)[(layer - FIRST_PRUNED_LAYER) % 3]
        return max(0.0, min(1.0, self.r + offset))

    def compress(self, layer: int, view: LayerView) -> Selection | None:
        # Where Δr = 0, PLPHP's rate is r in every layer.
        return _of_rate(self.rate(layer), self.gqa).compress(layer, view)


@functools.cache  # its checks are no part of a layer's work
def _of_rate(rate: float, gqa: Literal["mean", "max"]) -> PLPHP:
    return PLPHP(r=rate, delta_r=0.0, gqa=gqa)


def forced_method(name: str, params: dict) -> Method | None:
    """The method for a model with random weights; PLPHP's classes of layers are forced.

    Raises:
        UserError: parameters that only a trained model's attention could follow, or that the method refuses.
    """
    try:
        method = make_method(name, **params)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from None
    if type(method) is not PLPHP:  # its heirs are called otherwise
        return method
    scored = sorted(set(params) - {*FORCED, "gqa"})
    if scored:
        raise UserError(
            f"plphp.{scored[0]} = {params[scored[0]]!r} needs attention scores, which random weights do not give; "
            f"force the retention with {' and '.join(FORCED)}"
        )
    return ForcedPLPHP(**params)


@functools.lru_cache(maxsize=256)  # asked again for every backend and batch
def forced_prefill(method: Method | None, shape: DecoderShape, images: int, text: int) -> tuple[LayerRecord, ...]:
    """What each layer of `shape` gets and holds of one prompt: the prefill of a decoder as deep, one head wide.

    Its weights are set so that attention is all on text, and in a second prefill all on images. What attention gives is
    not needed, so that none is computed: only the rows that the method reads.

    Args:
        images: of the prompt, `shape.image_tokens` tokens each.
        text: its other tokens.

    Raises:
        UserError: the answer depends on the attention, so it takes a trained model; or the method refuses the prompt.
    """
    thin = dataclasses.replace(
        shape,
        decoder="qwen2",
        query_heads=1,
        kv_heads=1,
        head_dim=8,
        hidden=8,
        intermediate=8,
        tied=True,
        vocabulary=64,
    )
    model = build(thin, "cpu", torch.float32)
    inputs = prompts(thin, 1, images, text, "cpu", torch.float32)
    found = []
    for on_vision in (False, True):
        _look(model, on_vision)
        with (
            torch.inference_mode(),
            attending_by(model.model.language_model.config, NOTHING),
            prune(model, method, record_attention=False) as trace,
        ):
            try:
                prefill(model, inputs)
            except ValueError as error:  # a budget that this prompt has no room for
                raise UserError(f"{shape.name}: {error}") from None
        found.append(tuple(trace.layers))
    plain = all(isinstance(layer.counts[0], int) for layer in found[0])
    alike = [(layer.entered, layer.counts) for layer in found[0]] == [(one.entered, one.counts) for one in found[1]]
    if plain and alike:
        return found[0]
    raise UserError(
        f"method {getattr(method, 'name', None)!r} keeps tokens by attention scores, which random weights do not give: "
        "choose one whose budgets do not depend on them, such as plphp, fastv, vtw"
    )


def forced_lengths(method: Method | None, shape: DecoderShape, images: int, text: int) -> list[int]:
    """Tokens of one sample that each layer holds after the prefill. As `forced_prefill`."""
    return [sample_counts(layer.counts)[0] for layer in forced_prefill(method, shape, images, text)]


def _nothing(module: nn.Module, query: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """An attention implementation."""
    return torch.zeros_like(query).transpose(1, 2), None


register_attention(NOTHING, _nothing)


@torch.no_grad()
def _look(model: nn.Module, on_vision: bool) -> None:
    """Let every token attend to images alone, or to text alone: number 0 of a hidden state says what it is."""
    model.get_input_embeddings().weight[:, 0] = 10.0
    core = model.model
    core.image_newline[0] = core.multi_modal_projector.linear_2.bias[0] = 0.0
    core.multi_modal_projector.linear_2.weight[0] = 0.0
    for layer in core.language_model.layers:
        attention = layer.self_attn
        for projection in (attention.q_proj, attention.k_proj, attention.o_proj, layer.mlp.down_proj):
            projection.weight.zero_()  # states go through as they come in
        slow = attention.head_dim // 2 - 1  # the pair of numbers that rotates least
        attention.k_proj.bias.zero_()
        attention.q_proj.bias.zero_()[slow] = 100.0
        attention.k_proj.weight[slow, 0] = -1.0 if on_vision else 1.0
