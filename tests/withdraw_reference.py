"""Rules of the methods that withdraw in stages, for `reference.Reference`: from the papers, sharing nothing with us."""

import math

import torch

from tests.reference import best


def look(ref):
    """Attention of every layer, with what is withdrawn so far hidden; `ref.keys` and `ref.entering` are there."""
    n = len(ref.embeds)

    def hidden(l, head):
        mask = torch.zeros(n, n, dtype=torch.bool)
        mask[:, ref.everywhere[l]] = True
        return mask

    return ref.forward(ref.embeds, hidden)[1]


def withdrawing(stages, keep, compact=False):
    """`keep(ref, maps, layer, stage, kept)` → vision positions that enter each layer of `stages`."""

    def decide(ref):
        ref.nothing()
        ref.compact = compact
        kept = list(ref.vision)
        for stage, layer in enumerate(stages if ref.vision else ()):
            kept = sorted(keep(ref, look(ref), layer, stage, kept))
            for later in range(layer, ref.layers):
                ref.everywhere[later] = sorted(set(ref.vision) - set(kept))

    return decide


def pyramiddrop(layers, ratios, of="entering", compact=False):
    def keep(ref, maps, layer, stage, kept):
        row = maps[layer if of == "entering" else layer - 1][:, -1].mean(0)
        return best(row, kept, int(len(ref.vision) * ratios[stage]))

    return withdrawing(layers, keep, compact)


def evenly(K, ratio, compact=False):
    def keep(ref, maps, layer, stage, kept):
        chosen = []
        for image in ref.images:
            number = max(round(len(image) * ratio), 1)
            chosen += [image[int((i + 0.5) * len(image) / number)] for i in range(number)]
        return chosen

    return withdrawing([K], keep, compact)


def dart(K, each, vision_pivots=4, text_pivots=4, compact=False):
    """`each(n, pivots)`: tokens per pivot."""

    def keep(ref, maps, layer, stage, kept):
        norm = sum(key.abs().sum(-1) for key in ref.keys[layer - 1])
        first = best(norm, ref.vision, vision_pivots)
        text = best(norm, range(ref.vision[-1] + 1, len(ref.embeds)), text_pivots)
        states = ref._norm(ref.entering[layer], ref.decoder.norm)
        chosen = list(first)
        for pivot in first + text:
            free = [i for i in ref.vision if i not in chosen]
            cosine = torch.nn.functional.cosine_similarity(states, states[pivot][None])
            chosen += best(-cosine, free, each(len(ref.vision), len(first + text)))
        return chosen

    return withdrawing([K], keep, compact)


def sparsevlm(layers, lists, version="1.5", recycle=True, raters="relevant", compact=False):
    def decide(ref):
        ref.nothing()
        ref.compact = compact
        kept, n = list(ref.vision), len(ref.embeds)
        for layer, count in zip(layers, lists, strict=True):
            if count >= len(kept):
                continue
            maps, keep = look(ref), kept
            text = list(range(ref.vision[-1] + 1, n))
            rows = _raters(ref, text) if raters == "relevant" else [n - 1]
            score = _judged(ref, maps[layer - 1][:, rows], rows, layer - 1, version)
            keep = best(score, kept, count)
            if recycle:
                lost = [i for i in kept if i not in keep]
                lost = sorted(best(score, lost, int(0.3 * len(lost)) + 1))
                merges = _density_peaks(ref.entering[layer], lost, len(lost) // 10 + 1)
                ref.merges[layer] = merges
                keep = keep + [centre for centre, _ in merges]
            kept = sorted(keep)
            for later in range(layer, ref.layers):
                ref.everywhere[later] = sorted(set(ref.vision) - set(kept))

    return decide


def _raters(ref, text):
    share = (ref.embeds[ref.vision] @ ref.embeds[text].T).softmax(-1).mean(0)
    return [i for i, s in zip(text, share, strict=True) if s > share.mean()] or text


def _judged(ref, rows, of, layer, version):
    """`rows` `(heads, raters, tokens)` → a score per token."""
    n = rows.shape[-1]
    if version == "2":
        angles = ref.angles(n, layer)
        turned = angles[of][:, None] - angles[None]
        weight = (2 / ref.dim**0.5 * turned.cos().sum(-1)).clamp(min=0.01 * ref.dim**0.5)
        rows = (rows / weight).mean(1)
        heads = best(rows[:, ref.vision].sum(-1), range(ref.heads), max(round(14 / 32 * ref.heads), 1))
        return rows[heads].mean(0)
    return rows.mean(1).mean(0)


def _density_peaks(states, among, number):
    """Centres with the members of each."""

    def distance(i, j):
        return float((states[i] - states[j]).norm()) / states.shape[1] ** 0.5

    density = {}
    for i in among:
        nearest = sorted(distance(i, j) for j in among)[:number]
        density[i] = math.exp(-sum(d * d for d in nearest) / number)
    order = sorted(among, key=lambda i: (-density[i], i))
    largest = max(distance(i, j) for i in among for j in among)
    apart = {i: min((distance(i, j) for j in order[:at]), default=largest) for at, i in enumerate(order)}
    centres = sorted(among, key=lambda i: (-density[i] * apart[i], i))[:number]
    members = {centre: [centre] for centre in centres}
    for i in among:
        if i not in members:
            members[min(centres, key=lambda centre: distance(i, centre))].append(i)
    return list(members.items())
