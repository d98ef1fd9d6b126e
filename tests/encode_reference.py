"""Encode methods once more, in float64, one image at a time, with loops: nothing leaves the sequence, it is masked.

What the vision tower does comes from its own attention, recorded, and which of its patches make a token from the
gradient: neither is read from the families.
"""

import math
from types import SimpleNamespace

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from plphp_core.pruning.hf import tower_attention, tower_layers

CALLS = []
F64 = torch.float64


def recorded(module, query, key, value, attention_mask=None, scaling=None, **kwargs):
    """An attention implementation that notes its queries and keys, `(crops, heads, tokens, head_dim)`, and its mask."""
    seen = torch.ones(query.shape[0], key.shape[2], dtype=torch.bool)
    seen = seen if attention_mask is None else attention_mask[:, 0, -1].expand_as(seen)
    CALLS.append((module, query.detach().double(), key.detach().double(), seen))
    probabilities = (query @ key.mT * scaling).masked_fill(~seen[:, None, None], -math.inf).softmax(-1)
    return (probabilities @ value).transpose(1, 2), None


AttentionInterface.register("recorded", recorded)
AttentionMaskInterface.register("recorded", sdpa_mask)


def parts_of(model):
    """The tower, its number of layers, the number of the one that makes the features, and the projector."""
    config, inner = model.config.vision_config, model.model
    if hasattr(inner, "visual"):
        return inner.visual, config.depth, config.depth - 1, inner.visual.merger
    depth, layer = config.num_hidden_layers, getattr(model.config, "vision_feature_layer", -1)
    if hasattr(inner, "connector"):
        return inner.vision_model, depth, depth + layer, inner.connector
    return inner.vision_tower, depth, depth + layer, inner.multi_modal_projector


class Image:
    """One image in the tower. `features` and `heads` are of its places in the tower's sequence, class tokens too.

    Attributes:
        positions: of its tokens in the prompt.
        tokens: their features as they enter the decoder.
        made_of: per token the places that it is made of; none for a newline.
        crop_of: per token the crop; None for a newline.
    """


def images_of(ref, layer=0):
    """The images of a sample; `layer` of the tower is counted from that of the features.

    Args:
        ref: a `tests.reference.Reference`.
    """
    model = ref.model
    tower, depth, number, projector = parts_of(model)
    blocks = tower_layers(tower, depth)
    before = tower.config._attn_implementation
    for one in tower.modules():
        if hasattr(one, "config"):
            one.config._attn_implementation = "recorded"
    seen, CALLS[:] = [], []
    handle = blocks[number].register_forward_hook(
        lambda _, args, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    floats = {k: v.double() if v.is_floating_point() else v for k, v in ref.inputs.items()}
    with torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        names = ("pixel_values", "pixel_attention_mask", "image_sizes", "image_grid_thw", "batch_num_images")
        out = model.get_image_features(**{k: v for k, v in floats.items() if k in names}, return_dict=True)
        whole = seen[0]
        tokens = torch.cat([one.flatten(0, -2) for one in out.pooler_output])
        touched = []
        for token in tokens:
            (slope,) = torch.autograd.grad((token * token).sum(), whole, retain_graph=True, allow_unused=True)
            touched.append([] if slope is None else slope.flatten(0, -2).abs().sum(-1).nonzero()[:, 0].tolist())
    handle.remove()
    for one in tower.modules():
        if hasattr(one, "config"):
            one.config._attn_implementation = before
    attention = tower_attention(blocks[min(number + layer, depth - 1)])
    calls = [call for module, *call in CALLS if module is attention]
    queries, keys, shown = ([one for call in calls for one in call[part]] for part in range(3))
    bounds = [0]
    for one in queries:
        bounds.append(bounds[-1] + one.shape[1])
    found, at = [], 0
    for positions in ref.images:
        image = Image()
        image.positions = positions
        image.text = ref.embeds[ref.vision[-1] + 1 :]
        image.tokens = ref.embeds[positions]
        at_vision = [ref.shown.index(i) for i in positions]
        image.whole = torch.cat([image.tokens, *(added[at_vision] for added in ref.added)], -1)
        image.made_of = touched[at : at + len(positions)]
        at += len(positions)
        image.crop_of = [None if not made else crop_at(bounds, made[0]) for made in image.made_of]
        crops = sorted({crop for crop in image.crop_of if crop is not None})
        image.projector, image.features = projector, whole.detach().flatten(0, -2)
        image.sequences = {b: SimpleNamespace(first=bounds[b], q=queries[b], k=keys[b], seen=shown[b]) for b in crops}
        image.one_by_one = "llava" in model.config.model_type  # the others' join patches first
        image.has_class = model.config.vision_config.model_type in ("clip_vision_model", "internvl_vision")
        found.append(image)
    return found


def crop_at(bounds, place):
    """The sequence that a place of the tower is in."""
    return next(b for b in range(len(bounds)) if bounds[b] <= place < bounds[b + 1])


def attention(image, rows="cls", joined=False):
    """Per token: what its places get, a mean over heads and places; None for newlines."""
    at = {}
    for one in image.sequences.values():
        q, k = one.q, one.k
        if joined:
            q, k = (t.transpose(0, 1).flatten(1)[None] for t in (q, k))
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~one.seen, -math.inf).softmax(-1)
        row = weights[:, 0] if rows == "cls" else weights[:, one.seen].mean(1)
        at |= {one.first + i: float(value) for i, value in enumerate(row.mean(0))}
    return [None if not made else sum(at[p] for p in made) / len(made) for made in image.made_of]


def keys(image):
    """Per token the mean of its places' keys, `(heads, head_dim)`; None for newlines."""
    at = {one.first + i: one.k[:, i] for one in image.sequences.values() for i in range(one.k.shape[1])}
    return [None if not made else torch.stack([at[p] for p in made]).mean(0) for made in image.made_of]


def encoding(keep, layer=0, compact=False):
    """The rule for `Reference.generate`: `keep(image)` → kept local numbers and new features of some of them.

    Args:
        compact: positions are counted without what was dropped.
    """

    def decide(ref):
        ref.nothing()
        ref.embeds, ref.added = ref.embeds.clone(), [added.clone() for added in ref.added]
        dropped = []
        for image in images_of(ref, layer) if ref.images else []:
            kept, new = keep(image)
            dropped += [p for i, p in enumerate(image.positions) if i not in set(kept)]
            for i, feature in sorted(new.items()):
                assert i in set(kept)
                at = image.positions[i]
                embedded, *more = feature.detach().split(ref.embeds.shape[1])
                ref.embeds[at] = embedded
                for added, one in zip(ref.added, more, strict=False):  # merged in the tower: nothing is added there
                    added[ref.shown.index(at)] = one
                ref.written.append(image.positions[i])
        if compact:
            gone = torch.zeros(len(ref.embeds), dtype=torch.long)
            gone[dropped] = 1
            ref.positions = torch.arange(len(ref.embeds)).expand(3, -1) - gone.cumsum(0)
        ref.everywhere = [sorted(dropped) for _ in range(ref.layers)]

    return decide


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def count(image, ratio, size=None):
    return max(round(ratio * (len(image.positions) if size is None else size)), 1)


def divprune(ratio):
    def keep(image):
        n, x = len(image.positions), image.tokens
        far = [[1 - cosine(x[i], x[j]) if i != j else math.inf for j in range(n)] for i in range(n)]
        number = count(image, ratio)
        if number >= n:
            return range(n), {}
        picked = [max(range(n), key=lambda i: (min(far[i]), -i))]
        while len(picked) < number:
            rest = [i for i in range(n) if i not in picked]
            picked.append(max(rest, key=lambda i: (min(far[i][j] for j in picked), -i)))
        return picked, {}

    return keep


# --- by the tower's attention -----------------------------------------------------------------------------------------


def ranked_by(image, joined=False):
    """Local numbers of tokens that compete, newlines left out, and their attention."""
    found = attention(image, "cls" if image.has_class else "received", joined)
    return [i for i, value in enumerate(found) if value is not None], found


def best(numbers, score, count):
    return sorted(numbers, key=lambda i: (-score[i], i))[:count]


def compared(image, whole=False):
    """Features that tokens are compared by, and how to make a decoder's of them: the tower's where a token is a patch.

    Args:
        whole: with what the decoder adds behind its first layers.
    """
    if not image.one_by_one:
        return list(image.whole if whole else image.tokens), lambda x: x
    width = image.features.shape[-1]
    own = [image.features[made[0]] if made else torch.zeros(width).double() for made in image.made_of]
    return own, image.projector


def visionzip(ratio, share=1 / 6.4, merge="sum", class_token=True):
    def keep(image):
        among, score = ranked_by(image)
        number = count(image, ratio)
        if number >= len(among):
            return among, {}
        x, project = compared(image, whole=True)
        with_class = class_token and image.has_class and image.one_by_one
        contextual = min(math.floor(share * number + 1e-9), number - with_class)
        dominant = best(among, score, number - contextual - with_class)
        rest = [i for i in among if i not in dominant]
        step = max(1, len(rest) // contextual) if contextual else 1
        targets = rest[::step][:contextual]
        k = [None if one is None else one.mean(0) for one in keys(image)]
        members = {t: [] for t in targets}
        others = [i for i in rest if i not in targets]
        for i in others if targets else []:
            members[max(targets, key=lambda t: (cosine(k[i], k[t]), -t))].append(i)
        new = {}
        for t in targets:
            joined = [x[i] for i in members[t]]
            if merge == "mean":
                merged = torch.stack([x[t], *joined]).mean(0)
            else:
                merged = x[t] + torch.stack(joined).mean(0) if joined else x[t]
            new[t] = project(merged)
        if with_class:
            first = image.sequences[min(image.sequences)].first
            new[others[0]] = project(image.features[first])
        return sorted({*dominant, *new}), new

    return keep


def vispruner(ratio, important=0.5):
    def keep(image):
        among, score = ranked_by(image)
        number = count(image, ratio)
        if number >= len(among):
            return among, {}
        x, _ = compared(image)
        order = best(among, score, len(among))
        first = math.floor(number * important + 1e-9)
        rest = order[first:]
        while len(rest) > number - first > 0:
            a, b = rest[::2], rest[1::2]
            a = sorted(a, key=lambda i: -max(cosine(x[i], x[j]) for j in b))
            rest = a[min(8, len(rest) - (number - first), len(a)) :] + b
        return sorted(order[:first] + (rest if number > first else [])), {}

    return keep


def prumerge(ratio=None, plus=True, neighbours=32, extra=True):
    def keep(image):
        among, score = ranked_by(image, joined=True)
        n = len(among)
        values = torch.tensor([score[i] for i in among]).double()
        low, high = torch.quantile(values, 0.25), torch.quantile(values, 0.75)
        outliers = best(among, score, max(int((values > high + 1.5 * (high - low)).sum()), 1))
        if ratio is None:
            kept = list(outliers)
            if plus:
                stride = max(n // len(outliers) // 3, 1)
                kept += [among[i] for i in range(0, n - 1, stride) if among[i] not in outliers]
            if len(kept) + extra >= n:
                return range(len(image.positions)) if len(kept) + extra >= len(image.positions) else among, {}
        else:
            number = count(image, ratio)
            if number >= n:
                return among, {}
            number -= extra
            kept = outliers[:number] if plus else best(among, score, number)
            rest = [i for i in among if i not in kept]
            missing = number - len(kept)
            kept += [rest[math.floor((i + 0.5) * len(rest) / missing)] for i in range(missing)]
        x, project = compared(image, whole=True)
        k = [None if one is None else one.flatten() for one in keys(image)]
        new = {}
        for i in kept:
            near = sorted((j for j in among if j != i), key=lambda j: (-cosine(k[i], k[j]), j))[:neighbours]
            new[i] = project(x[i] + sum((score[j] * x[j] for j in near), torch.zeros_like(x[i])))
        gone = [i for i in among if i not in kept]
        if extra:
            new[gone[0]] = project(sum(score[j] * x[j] for j in gone))
        return sorted(new), new

    return keep


def cdpruner(ratio, relevance):
    """Greedy, by the determinant of the kernel of those picked itself."""

    def keep(image):
        among = [i for i, made in enumerate(image.made_of) if made]
        number = count(image, ratio)
        if number >= len(among):
            return among, {}
        x = image.tokens
        raw = [sum(cosine(x[i], t) for t in image.text) / len(image.text) for i in range(len(x))]
        low, high = min(raw), max(raw)
        r = [1.0 if relevance == "none" else (value - low + 1e-6) / (high - low) for value in raw]
        everything = range(len(x))
        alike = [[1.0 if i == j else cosine(x[i], x[j]) for j in everything] for i in everything]
        kernel = torch.tensor([[r[i] * r[j] * alike[i][j] for j in everything] for i in everything], dtype=F64)
        picked = []
        while len(picked) < number:
            rest = [i for i in among if i not in picked]
            worth = {i: float(torch.linalg.det(kernel[[*picked, i]][:, [*picked, i]])) for i in rest}
            picked.append(max(rest, key=lambda i: (worth[i], -i)))
        return sorted(picked), {}

    return keep
