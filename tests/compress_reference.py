"""Rules of the methods that compress caches, for `reference.Reference`: from the papers, sharing nothing with us.

A rule says what each KV head of each layer keeps of the prompt.
"""

import math

import torch

from tests.reference import best, plphp


def compressing(keep):
    """`keep(ref, maps)` → positions kept, by layer and KV head; `ref.keys` and `ref.values` are there."""

    def decide(ref):
        ref.nothing()
        n = len(ref.embeds)
        none = torch.zeros(n, n, dtype=torch.bool)
        _, maps = ref.forward(ref.embeds, lambda l, head: none)
        everything = [[list(range(n))] * ref.kv_heads for _ in range(ref.layers)]
        kept = keep(ref, maps) if ref.vision else everything
        group = ref.heads // ref.kv_heads
        for l in range(ref.layers):
            for head in range(ref.heads):
                ref.later[l][head] = sorted(set(range(n)) - set(kept[l][head // group]))

    return decide


def of_group(ref, rows, kv):
    """Mean over the query heads of a KV head of `(heads, tokens)`."""
    group = ref.heads // ref.kv_heads
    return rows[kv * group : (kv + 1) * group].mean(0)


def behind(ref, window=None):
    """Query rows behind the last image, at least the last one."""
    rows = max(len(ref.embeds) - 1 - ref.vision[-1], 1)
    return rows if window is None else min(rows, window)


def ranked(scope, budget, score, window=lambda capacity: 0, capacity=None, split=None, whole=()):
    """The common frame: `score(ref, maps, l, kv)`; `capacity(ref, l, mean, size)`; `split(scores, among, keep)`."""

    def keep(ref, maps):
        n, found = len(ref.embeds), []
        size = len(ref.vision) if scope == "vision" else n
        mean = math.floor(budget * size + 1e-9)
        mean = min(size, max(mean, 1)) if scope == "prompt" else mean
        for l in range(ref.layers):
            room = mean if capacity is None else capacity(ref, maps, l, mean, size)
            if l in whole or room >= size:
                found.append([list(range(n))] * ref.kv_heads)
                continue
            last = list(range(n - window(room), n)) if scope == "prompt" else []
            among = ref.vision if scope == "vision" else [i for i in range(n) if i not in last]
            scores = [score(ref, maps, l, kv) for kv in range(ref.kv_heads)]
            counts = [room - len(last)] * ref.kv_heads
            if split is not None:
                counts = split(scores, among, room - len(last))
            others = [i for i in range(n) if i not in ref.vision] if scope == "vision" else last
            found.append([sorted(best(s, among, count) + others) for s, count in zip(scores, counts, strict=True)])
        return found

    return compressing(keep)


def smoothed(score, runs, kernel, how):
    """Pooled over neighbouring positions of the same run; missing neighbours count as 0 for "avg"."""
    found = score.clone()
    for run in runs:
        inside = set(run)
        for i in run:
            near = [score[at] for at in range(i - kernel // 2, i + kernel // 2 + 1) if at in inside]
            found[i] = sum(near) / kernel if how == "avg" else max(near)
    return found


def observed(scope, window, kernel, how):
    """SnapKV's score."""

    def score(ref, maps, l, kv):
        n = len(ref.embeds)
        rows = behind(ref, window) if scope == "vision" else min(window, n)
        mean = of_group(ref, maps[l][:, n - rows :].mean(1), kv)
        runs = ref.images if scope == "vision" else [list(range(n - min(window, n)))]
        return smoothed(mean, runs, kernel, how)

    return score


def snapkv(budget, scope, window, kernel, how, **more):
    return ranked(scope, budget, observed(scope, window, kernel, how), lambda capacity: window, **more)


def pyramidkv(budget, scope, window, kernel, how, beta):
    def capacity(ref, maps, l, mean, size):
        if mean >= size:
            return size
        if scope == "prompt":
            b, most = mean - window, size - window
            if size < 2 * b:
                return mean
            low = b // beta
            high = 2 * b - low
            if high >= most:
                high, low = most, 2 * b - most
            return window + high - l * ((high - low) // (ref.layers - 1))
        high = min(2 * mean - mean / beta, size)
        step = (high - (2 * mean - high)) / (ref.layers - 1)
        line = [high - step * place for place in range(ref.layers)]
        whole = [math.floor(value + 1e-9) for value in line]
        order = sorted(range(ref.layers), key=lambda place: (-(line[place] - whole[place]), place))
        for place in order[: ref.layers * mean - sum(whole)]:
            whole[place] += 1
        return whole[l]

    return snapkv(budget, scope, window, kernel, how, capacity=capacity)


def adakv(budget, scope, window, kernel, how, alpha):
    def split(scores, among, keep):
        own = math.floor(alpha * keep + 1e-9)
        first = [best(s, among, own) for s in scores]
        rest = [(float(s[i]), kv) for kv, s in enumerate(scores) for i in among if i not in first[kv]]
        rest = sorted(rest, key=lambda pair: -pair[0])[: len(scores) * (keep - own)]
        return [own + sum(kv == mine for _, mine in rest) for kv in range(len(scores))]

    return snapkv(budget, scope, window, kernel, how, split=split)


def tenth(capacity):
    return max(1, math.floor(0.1 * capacity + 1e-9))


def h2o(budget, scope):
    return ranked(scope, budget, lambda ref, maps, l, kv: of_group(ref, maps[l].sum(1), kv), tenth)


def tova(budget, scope):
    return ranked(scope, budget, lambda ref, maps, l, kv: maps[l][:, -1].mean(0), lambda capacity: 1)


def keydiff(budget, scope):
    def score(ref, maps, l, kv):
        keys = ref.keys[l][kv]
        mean = torch.stack([key / key.norm() for key in keys]).mean(0)
        return torch.stack([-(key @ mean) / (key.norm() * mean.norm()) for key in keys])

    return ranked(scope, budget, score)


def mixkv(budget, scope, window):
    attention = observed(scope, window, 5, "avg")

    def score(ref, maps, l, kv):
        n, base = len(ref.embeds), attention(ref, maps, l, kv)
        among = ref.vision if scope == "vision" else list(range(n - min(window, n)))
        units = torch.stack([key / key.norm() for key in ref.keys[l][kv]])
        cosines = units @ units.T
        redundancy = (cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1))

        def scaled(values):
            low, high = values[among].min(), values[among].max()
            unit = (values - low) / (high - low)
            return unit * base[among].mean() / unit[among].mean()

        norms, unlike = scaled(ref.values[l][kv].norm(dim=-1)), scaled(-(units @ units.mean(0)))
        return (1 - redundancy) * (base + norms) + redundancy * unlike

    return ranked(scope, budget, score, lambda capacity: window)


def vlcache(budget, scope, p=0.01):
    def score(ref, maps, l, kv):
        return of_group(ref, maps[l][:, -behind(ref) :].sum(1), kv)

    def capacity(ref, maps, l, mean, size):
        if mean >= size:
            return size
        n, rows = len(ref.embeds), behind(ref)
        density = []
        for layer in maps:
            part = [
                sum(float(layer[head, i, j]) >= p * float(layer[head, i].max()) for j in range(i + 1))
                for head in range(ref.heads)
                for i in range(n - rows, n)
            ]
            density.append(sum(part) / ref.heads / sum(i + 1 for i in range(n - rows, n)))
        least = 1 if scope == "prompt" else 0
        desired = [min(max(d / sum(density) * mean * ref.layers, 0.01 * size, least), size) for d in density]
        whole = [math.floor(value + 1e-9) for value in desired]
        order = sorted(range(ref.layers), key=lambda place: (-(desired[place] - whole[place]), place))
        left = min(mean * ref.layers, math.floor(sum(desired) + 1e-6)) - sum(whole)
        for place in order[: max(left, 0)]:
            whole[place] += 1
        return whole[l]

    return ranked(scope, budget, score, tenth, capacity=capacity)


def recency(budget, scope, sinks=4):
    def score(ref, maps, l, kv):
        n = len(ref.embeds)
        return [n if scope == "prompt" and i < sinks else i for i in range(n)]

    return ranked(scope, budget, score, lambda capacity: 1)


def of_plphp(r, delta_r, alpha, beta, change):
    """A control: `change(ref, maps, counts)` makes the kept positions of the pruned layers from PLPHP's counts."""

    def keep(ref, maps):
        plphp(r, delta_r, alpha, beta)(ref)
        counts = {
            l: [sum(i in image for i in ref.kept[l][0]) for image in ref.images] for l in range(2, ref.layers - 1)
        }
        n, chosen = len(ref.embeds), change(ref, maps, counts)
        text = [i for i in range(n) if i not in ref.vision]
        whole = [list(range(n))] * ref.kv_heads
        return [[sorted(text + kept) for kept in chosen[l]] if l in chosen else whole for l in range(ref.layers)]

    return compressing(keep)


def per_image(ref, score, counts):
    return [i for image, k in zip(ref.images, counts, strict=True) for i in best(score, image, k)]


def shared_heads(*parameters):
    def change(ref, maps, counts):
        return {l: [per_image(ref, maps[l][:, -1].mean(0), counts[l])] * ref.kv_heads for l in counts}

    return of_plphp(*parameters, change)


def uniform(*parameters):
    def change(ref, maps, counts):
        layers, found = sorted(counts), {}
        totals = [sum(counts[l][j] for l in layers) for j in range(len(ref.images))]
        for place, l in enumerate(layers):
            part = [total // len(layers) + (place < total % len(layers)) for total in totals]
            rows = [of_group(ref, maps[l][:, -1], kv) for kv in range(ref.kv_heads)]
            found[l] = [per_image(ref, row, part) for row in rows]
        return found

    return of_plphp(*parameters, change)
