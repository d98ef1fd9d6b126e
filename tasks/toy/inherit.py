"""Toys that start from the trained LLaVA-OneVision toy: its decoder, its words, its image tokens as a teacher."""

from __future__ import annotations

import random
from functools import cache

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlavaOnevisionForConditionalGeneration

from tasks.toy.models import llava_onevision
from tasks.toy.sizes import DECODER
from tasks.toy.stage import Stage
from tasks.toy.vision import draw_scenes, pixels

# How the decoder of an heir is tuned: to the layout of its prompts, and to what its attention lost with the biases.
TUNING = {"mixture": llava_onevision.FINDING}


@cache
def ancestor() -> tuple[LlavaOnevisionForConditionalGeneration, dict[str, int]]:
    """The trained LLaVA-OneVision toy, float32, and its vocabulary."""
    toy = llava_onevision.TOY
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(toy.checkpoint, dtype=torch.float32).eval()
    return model.requires_grad_(False), toy.build_processor().tokenizer.get_vocab()


def llama_config(ids: dict[str, int], begin: str, end: str, pad: str) -> LlamaConfig:
    """A Llama decoder of the ancestor's sizes, for a vocabulary `ids`."""
    return LlamaConfig(
        vocab_size=len(ids),
        tie_word_embeddings=True,
        bos_token_id=ids[begin],
        eos_token_id=ids[end],
        pad_token_id=ids[pad],
        **DECODER,
    )


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> list[str]:
    """Copy every parameter that both have in one shape; returns the names of the target's others."""
    known = dict(source.named_parameters())
    left = []
    for name, parameter in target.named_parameters():
        if name in known and known[name].shape == parameter.shape:
            parameter.copy_(known[name])
        else:
            left.append(name)
    return left


@torch.no_grad()
def inherit_decoder(model: nn.Module, decoder: nn.Module, tokenizer, aliases: dict[str, str]) -> None:
    """Layers and word vectors of the ancestor's decoder into `decoder`, whose biases, if it has none, are lost.

    `aliases`: for a token that the ancestor does not have, the one of the ancestor's whose vector it starts with. A
    word glued to the n of a JSON line break (`nFirst`) starts as the word; any other new token at random.
    """
    source, words = ancestor()
    old = source.model.language_model
    left = copy_weights(old.layers, decoder.layers) + copy_weights(old.norm, decoder.norm)
    if left:
        raise ValueError(f"the ancestor's decoder has no weights for {left}")
    vectors = model.get_input_embeddings().weight
    vectors.normal_(0, vectors.shape[1] ** -0.5)
    for token, i in tokenizer.get_vocab().items():
        for name in (token, aliases.get(token), token.removeprefix("n")):
            if name in words:
                vectors[i] = old.embed_tokens.weight[words[name]]
                break


class ImageTokensOfTheAncestor(nn.Module):
    """Vision lesson: the whole view's image tokens must equal the ancestor's, cell by cell.

    The ancestor's decoder reads these, so the heir's decoder can read the heir's images before it is tuned. Loss: mean
    squared error over the ancestor's mean square, 1 for an output of zeros.
    """

    def __init__(self, toy, model: nn.Module, learn_tower: bool = True) -> None:
        super().__init__()
        self.toy, self.learn_tower = toy, learn_tower
        self.model = (model,)  # the tuple keeps the model's parameters out of the lesson's

    def forward(self, stage: Stage, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        scenes = draw_scenes(rng, stage.batch)
        seeds = [rng.getrandbits(32) for _ in scenes]
        source, _ = ancestor()
        with torch.no_grad():
            wanted = llava_onevision.whole_view_tokens(source, pixels(scenes, seeds)).float()
        images = pixels(scenes, seeds, self.toy.family)
        made = self.toy.image_tokens(self.model[0], images, alone=True, learn_tower=self.learn_tower).float()
        # Word vectors and image tokens meet in the first layer's RMS norm, so the size of a token counts little.
        error = (made - wanted).square().mean() / wanted.square().mean()
        return error, {"cosine": nn.functional.cosine_similarity(made, wanted, dim=-1).mean().item()}
