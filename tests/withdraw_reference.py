"""Rules of the methods that withdraw in stages, for `reference.Reference`: from the papers, sharing nothing with us."""

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
        everything = range(len(ref.embeds))
        ref.kept = [[sorted(set(everything) - set(gone))] * ref.kv_heads for gone in ref.everywhere]

    return decide


def pyramiddrop(layers, ratios, of="entering", compact=False):
    def keep(ref, maps, layer, stage, kept):
        row = maps[layer if of == "entering" else layer - 1][:, -1].mean(0)
        return best(row, kept, int(len(ref.vision) * ratios[stage]))

    return withdrawing(layers, keep, compact)


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
