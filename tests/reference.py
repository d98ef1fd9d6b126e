"""The methods once more, written from the papers' formulas over the raw weights: nothing is removed, only masked.

Shares no code with the product: no cache, no hooks, no SDPA; every step recomputes the whole sequence in float64, one
sample at a time, without padding.
"""

import copy
import math

import torch


def best(score, among, count):
    """The `count` positions that score most, the earlier one of equals."""
    return sorted(among, key=lambda i: (-float(score[i]), i))[:count]


class Reference:
    """Greedy decoding of one sample with per-layer, per-head visibility of the prompt's vision tokens.

    The model's own unpruned forward gives the embedded prompt and its positions; from there on, every step is ours.
    """

    def __init__(self, model, inputs, images):
        """`inputs`: one unpadded sample; `images`: sizes of its images, in tokens; a model in float64 is not copied."""
        self.model = (model if model.dtype == torch.float64 else copy.deepcopy(model).double()).eval()
        self.inputs = inputs
        decoder = self.model.model
        self.decoder = getattr(decoder, "language_model", None) or decoder.text_model
        config = self.decoder.config
        self.layers, self.heads = config.num_hidden_layers, config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.gemma = hasattr(self.decoder.layers[0], "pre_feedforward_layernorm")
        self.scale = getattr(config, "query_pre_attn_scalar", self.dim) ** -0.5
        self.mutual = "token_type_ids" in inputs  # tokens of an image see each other in both directions
        self.ids = inputs["input_ids"][0].tolist()
        self.embeds, self.positions, self.added = self._embed(inputs)
        vision = [i for i, token in enumerate(self.ids) if token == model.config.image_token_id]
        self.shown = list(vision)
        self.images = []
        for size in images:
            self.images.append(vision[:size])
            vision = vision[size:]
        assert not vision
        self.vision = [i for image in self.images for i in image]
        self.nothing()

    @torch.no_grad()
    def _embed(self, inputs):
        """What the model hands its decoder: `(tokens, D)`, positions `(3, tokens)`, and what early layers add."""
        seen = {}
        handle = self.decoder.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
        floats = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        self.model(**floats, use_cache=False)
        handle.remove()
        tokens = seen["inputs_embeds"].shape[1]
        positions = seen.get("position_ids")
        if positions is None or positions.ndim == 2:
            positions = torch.arange(tokens).expand(3, 1, -1)
        return seen["inputs_embeds"][0], positions[-3:, 0], seen.get("deepstack_visual_embeds") or []

    @torch.no_grad()
    def forward(self, embeds, hidden_for):
        """Logits of the last token and every layer's attention `(heads, tokens, tokens)`.

        `hidden_for(layer, head)` → bool `(tokens, tokens)`, True where a query may not look beyond causality.
        """
        n = len(embeds)
        x = embeds
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        for image in self.images if self.mutual else []:
            future[image[0] : image[-1] + 1, image[0] : image[-1] + 1] = False
        maps, self.keys, self.values, self.entering = [], [], [], []
        for l, block in enumerate(self.decoder.layers):
            before = x
            for slot, members in self.merges.get(l, ()):
                x = x.index_copy(0, torch.tensor([slot]), before[members].mean(0, keepdim=True))
            self.entering.append(x)
            cos, sin = self._rotary(n, l)

            def rope(t, cos=cos, sin=sin):
                a, b = t[..., : self.dim // 2], t[..., self.dim // 2 :]
                return t * cos + torch.cat([-b, a], -1) * sin

            h = self._norm(x, block.input_layernorm)
            attn = block.self_attn
            q = attn.q_proj(h).view(n, self.heads, self.dim)
            k = attn.k_proj(h).view(n, self.kv_heads, self.dim)
            if hasattr(attn, "q_norm"):
                q, k = self._norm(q, attn.q_norm), self._norm(k, attn.k_norm)
            v = attn.v_proj(h).view(n, self.kv_heads, self.dim)
            self.keys.append([rope(k[:, kv]) for kv in range(self.kv_heads)])
            self.values.append([v[:, kv] for kv in range(self.kv_heads)])
            out, probabilities = [], []
            for head in range(self.heads):
                group = head // (self.heads // self.kv_heads)
                scores = rope(q[:, head]) @ rope(k[:, group]).T * self.scale
                p = scores.masked_fill(future | hidden_for(l, head), float("-inf")).softmax(-1)
                p = p.nan_to_num(0.0)  # rows of withdrawn tokens, which nobody reads
                probabilities.append(p)
                out.append(p @ v[:, group])
            maps.append(torch.stack(probabilities))
            out, mlp = attn.o_proj(torch.cat(out, -1)), block.mlp
            if self.gemma:
                x = x + self._norm(out, block.post_attention_layernorm)
                h = self._norm(x, block.pre_feedforward_layernorm)
                gate = torch.nn.functional.gelu(mlp.gate_proj(h), approximate="tanh")
                x = x + self._norm(mlp.down_proj(gate * mlp.up_proj(h)), block.post_feedforward_layernorm)
            else:
                x = x + out
                h = self._norm(x, block.post_attention_layernorm)
                x = x + mlp.down_proj(torch.nn.functional.silu(mlp.gate_proj(h)) * mlp.up_proj(h))
            if l < len(self.added):
                more = torch.zeros_like(x).index_add(0, torch.tensor(self.shown), self.added[l])
                for layer in sorted(one for one in self.merges if one <= l):
                    of = more
                    for slot, members in self.merges[layer]:
                        more = more.index_copy(0, torch.tensor([slot]), of[members].mean(0, keepdim=True))
                x = x + more
        return self.model.lm_head(self._norm(x[-1:], self.decoder.norm))[0], maps

    def _rotary(self, n, layer):
        """cos and sin, `(n, head_dim)`."""
        angles = self.angles(n, layer)
        return angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)

    def angles(self, n, layer):
        """By which a layer turns each pair of numbers of a head; under M-RoPE by time, height or width.

        Compact positions move up by what is withdrawn in front of them.
        """
        rope = self.decoder.config.rope_parameters
        if self.gemma:
            kind = self.decoder.config.layer_types[layer]
            assert kind == "full_attention" or n <= self.decoder.config.sliding_window
            rope = rope[kind]
        inverse = 1.0 / (rope["rope_theta"] ** (torch.arange(0, self.dim, 2).double() / self.dim))
        inverse = inverse / (rope["factor"] if rope["rope_type"] == "linear" else 1.0)
        more = torch.arange(1, n - self.positions.shape[1] + 1) + self.positions.max()
        positions = torch.cat([self.positions, more.expand(3, -1)], 1).double()
        gone = self.everywhere[layer] if self.compact else ()
        positions = positions - torch.tensor([sum(g < i for g in gone) for i in range(n)])
        axis = torch.zeros(self.dim // 2, dtype=torch.long)
        sections = rope.get("mrope_section")
        if sections and rope.get("mrope_interleaved"):
            axis[1 : 3 * sections[1] : 3], axis[2 : 3 * sections[2] : 3] = 1, 2
        elif sections:
            axis = torch.repeat_interleave(torch.arange(3), torch.tensor(sections))
        return positions[axis].T * inverse

    def _norm(self, x, module):
        if self.gemma:
            return (1 + module.weight) * x / (x.pow(2).mean(-1, keepdim=True) + module.eps).sqrt()
        return module.weight * x / (x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon).sqrt()

    @torch.no_grad()
    def generate(self, steps, decide):
        """Greedy tokens and the logits of each step.

        `decide(self)` is one of the rules below: it sets `self.everywhere` and `self.later`, and may change embeddings.
        """
        decide(self)
        embeds, prompt = self.embeds, len(self.embeds)
        ids, logits_of = [], []
        for _ in range(steps):
            n = len(embeds)

            def hidden(l, head, n=n):
                mask = torch.zeros(n, n, dtype=torch.bool)
                mask[:, self.everywhere[l]] = True  # withdrawn from the stream: no query reads it
                mask[prompt:, self.later[l][head]] = True  # compressed: only later queries miss it
                return mask

            logits, _ = self.forward(embeds, hidden)
            ids.append(int(logits.argmax()))
            logits_of.append(logits)
            embeds = torch.cat([embeds, self.decoder.embed_tokens(torch.tensor(ids[-1:]))])
        return ids, torch.stack(logits_of)

    def nothing(self):
        self.everywhere = [[] for _ in range(self.layers)]
        self.compact = False  # whether positions are counted without what is withdrawn
        self.merges = {}  # by layer: slots that get the mean of what enters it at other places
        self.later = [[[] for _ in range(self.heads)] for _ in range(self.layers)]
        self.written = []  # positions whose embeddings are no longer the model's

    @property
    def kept(self):
        """Positions of the prompt that later queries see, by layer and KV head."""
        group, everything = self.heads // self.kv_heads, set(range(len(self.embeds)))
        return [
            [sorted(everything.difference(gone, later[kv * group])) for kv in range(self.kv_heads)]
            for gone, later in zip(self.everywhere, self.later, strict=True)
        ]


def plphp(r, delta_r, alpha, beta, gqa="mean"):
    def decide(ref):
        ref.nothing()
        none = torch.zeros(len(ref.embeds), len(ref.embeds), dtype=torch.bool)
        _, maps = ref.forward(ref.embeds, lambda l, head: none)
        ref.gamma = [float(m[:, -1, ref.vision].sum(-1).mean()) for m in maps]
        for l in range(2, ref.layers - 1):
            g = ref.gamma[l]
            rate = r + delta_r if g >= alpha else r - delta_r if g < beta else r
            group = ref.heads // ref.kv_heads
            for kv in range(ref.kv_heads):
                rows = maps[l][kv * group : (kv + 1) * group, -1]
                score = rows.mean(0) if gqa == "mean" else rows.max(0).values
                kept = []
                for image in ref.images:
                    keep = math.floor(rate * len(image) + 1e-9)
                    kept += best(score, image, keep)
                dropped = sorted(set(ref.vision) - set(kept))
                for head in range(kv * group, (kv + 1) * group):
                    ref.later[l][head] = dropped

    return decide


def fastv(K, R, rows="last"):
    def decide(ref):
        ref.nothing()
        none = torch.zeros(len(ref.embeds), len(ref.embeds), dtype=torch.bool)
        _, maps = ref.forward(ref.embeds, lambda l, head: none)
        if ref.vision and K < ref.layers:
            a = maps[K - 1]
            score = a[:, -1].mean(0) if rows == "last" else a.mean(1).mean(0)
            keep = round(len(ref.vision) * (1 - R))
            kept = best(score, ref.vision, keep)
            for l in range(K, ref.layers):
                ref.everywhere[l] = sorted(set(ref.vision) - set(kept))

    return decide


def vtw(K):
    def decide(ref):
        ref.nothing()
        for l in range(K, ref.layers):
            ref.everywhere[l] = list(ref.vision)

    return decide
