"""Training batches of the decoder: samples to token ids, image tokens in place, answers as targets."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from plphp_core.families import get_family
from tasks.toy.hints import HINT_LAYERS, NO_CHANGE, hints
from tasks.toy.samples import LETTERS, Sample, make_sample
from tasks.toy.slots import CONTENT
from tasks.toy.toy import Toy
from tasks.toy.vision import IGNORED, pixels

# Samples of one group have equally many images, so that a batch needs almost no padding.
GROUPS: dict[str, tuple[tuple[str, str], ...]] = {
    "caption": (("flickr30k", "flickr30k"), ("coco2017", "coco2017")),
    "detail": (("detailcaps", "detailcaps"),),
    "change": (
        ("sd", "Spot-the-Diff"),
        ("sd", "CLEVR-Change"),
        ("ie", "IEdit"),
        ("ie", "HQ-Edit"),
        ("ie", "MagicBrush"),
    ),
    "birds": (("sd", "Birds-to-Words"),),
    "story": (("vst", "AESOP"), ("vst", "FlintstonesSV"), ("vst", "VIST")),
    "parade": (("vst", "PororoSV"),),
    "views": tuple(("mv", name) for name in ("ScanQA", "ALFRED", "ScanNet_chat")),
    "choice": (("mv", "nuscenes"), ("mv", "ScanNet_task")),
    "read": (("reading", "all"), ("reading", "one")),
    "find": tuple(("finding", name) for name in ("color", "shape", "place")),
    "tour": (("long", "tour"),),
}


@dataclass(frozen=True)
class Batch:
    """`ids` (batch, length) right-padded, `targets` the token that must follow each position or IGNORED."""

    ids: Tensor
    targets: Tensor
    hints: Tensor  # (batch, length): the word that must be readable half-way, or IGNORED
    images: Tensor  # uint8 (batch * images, 3, SIZE, SIZE), sample by sample
    alone: bool
    image_mask: Tensor  # (batch, length): an image token stands here


def draw_batch(toy: Toy, group: str, size: int, rng: random.Random, tokenizer) -> Batch:
    """`size` fresh training samples of one group."""
    names = GROUPS[group]
    style = next(iter(toy.styles))
    if len(toy.styles) > 1:
        (style,) = rng.choices(list(toy.styles), list(toy.styles.values()))
    samples = [make_sample(*rng.choice(names), rng, "train") for _ in range(size)]
    seeds = [rng.getrandbits(32) for sample in samples for _ in sample.scenes]
    return assemble(toy, samples, seeds, tokenizer, style)


def assemble(toy: Toy, samples: list[Sample], seeds: list[int], tokenizer, style: str = "lmms_eval") -> Batch:
    """Tokens and targets of samples with equally many images; `seeds` draws the images, sample by sample."""
    images = pixels([scene for sample in samples for scene in sample.scenes], seeds, get_family(toy.name, style))
    alone = len(samples[0].scenes) == 1
    image_id = tokenizer.convert_tokens_to_ids(toy.image_token)
    prompts = tokenizer([toy.expand(toy.chat(sample, style), alone) for sample in samples])["input_ids"]
    answers = tokenizer([sample.answer + toy.end for sample in samples], add_special_tokens=False)["input_ids"]
    rows, targets, told = [], [], []
    for sample, prompt, answer in zip(samples, prompts, answers, strict=True):
        rows.append(prompt + answer[:-1])
        targets.append([IGNORED] * (len(prompt) - 1) + answer)
        tokens = tokenizer.convert_ids_to_tokens(prompt)
        found = hints(sample, tokens, toy.image_token, toy.cells)
        words = dict(zip(found, tokenizer.convert_tokens_to_ids(list(found.values())), strict=True))
        told.append([words.get(i, IGNORED) for i in range(len(rows[-1]))])
    length = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
    padded = [torch.tensor([row + [IGNORED] * (length - len(row)) for row in table]) for table in (targets, told)]
    return Batch(ids, *padded, images, alone, ids == image_id)


def plain_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_) -> tuple[Tensor, None]:
    """Causal grouped-query attention by two matrix products: on a CPU twice as fast to train as the fused kernel.

    query (batch, query_heads, length, D), key and value (batch, kv_heads, length, D); the mask is added to the scores.
    """
    batch, heads, length, width = query.shape
    kv_heads = key.shape[1]
    grouped = (query * scaling).reshape(batch, kv_heads, heads // kv_heads * length, width)
    scores = grouped @ key.transpose(-1, -2)
    scores = scores.view(batch, heads, length, length) + attention_mask
    out = scores.softmax(-1).view(batch, kv_heads, -1, length) @ value
    return out.view(batch, heads, length, width).transpose(1, 2), None


AttentionInterface.register("toy_training", plain_attention)


def decoder_states(decoder, embeddings: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Causal decoder over (batch, length, D) at the given rotary positions; right padding needs no mask.

    Returns the normalised states after the last layer and after the first HINT_LAYERS layers.
    """
    rotary = decoder.rotary_emb(embeddings, positions)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else embeddings.dtype
    mask = torch.full((embeddings.shape[1],) * 2, float("-inf"), dtype=dtype).triu(1)
    states = half_way = embeddings
    for number, layer in enumerate(decoder.layers, 1):
        states = layer(states, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
        if number == HINT_LAYERS:
            half_way = states
    return decoder.norm(states), decoder.norm(half_way)


def _word_loss(model, states: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted cross-entropy where `targets` are given, with the targets there and whether they were hit."""
    asked = targets != IGNORED
    wanted = targets[asked]
    logits = model.lm_head(states[asked]).float()
    weight = weights[wanted]
    loss = (F.cross_entropy(logits, wanted, reduction="none") * weight).sum() / weight.sum()
    return loss, wanted, logits.argmax(-1) == wanted


def answer_loss(toy: Toy, model, batch: Batch, words: Words) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of answers and of hints.

    Also returns the teacher-forced accuracy of content words, `answer`, and of hints other than "no change", `hint`.
    """
    embeddings = model.get_input_embeddings()(batch.ids)
    features = toy.image_tokens(model, batch.images, batch.alone)
    embeddings = embeddings.masked_scatter(batch.image_mask[..., None], features.to(embeddings.dtype))
    positions = toy.positions(batch.ids, batch.image_mask)
    states, half_way = decoder_states(toy.family.decoder(model), embeddings, positions)
    loss, wanted, right = _word_loss(model, states, batch.targets, words.answer_weight)
    shown = {"answer": right[words.content[wanted]].float().mean().item()}
    if (batch.hints != IGNORED).any():
        hint_loss, wanted, right = _word_loss(model, half_way, batch.hints, words.hint_weight)
        loss = loss + hint_loss
        shown["hint"] = right[wanted != words.no_change].float().mean().item()
    return loss, shown


@dataclass(frozen=True)
class Words:
    """Per token of the vocabulary: is it a content word, how much it weighs in an answer and in a hint."""

    content: Tensor
    answer_weight: Tensor
    hint_weight: Tensor
    no_change: int

    @classmethod
    def of(cls, tokenizer) -> Words:
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        content = torch.tensor([name in {*CONTENT, *LETTERS, "one", "two", "three"} for name in names])
        # Most places of a picture do not change, and most words of an answer are the template's.
        hint_weight = torch.tensor([0.15 if name == NO_CHANGE else 1.0 for name in names])
        return cls(content, torch.where(content, 1.0, 0.3), hint_weight, names.index(NO_CHANGE))
