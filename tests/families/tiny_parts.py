"""What the tiny models of several families are made of: decoder values, random weights, prompts, a tokenizer."""

import functools
import random
import re

import torch


def word_tokenizer(texts, special, size, **roles):
    """Knows the words of `texts` and `w0` … `w49`; starts every sequence with the begin token, as Llama's do.

    Args:
        special: token → id, all of them at the end of the vocabulary.
        size: of the vocabulary.
        roles: bos_token, eos_token, pad_token; every other special token is an additional one.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    plain = re.split("|".join(re.escape(token) for token in special), " ".join(texts))
    words = dict.fromkeys(
        [f"w{i}" for i in range(50)] + [word for part in plain for word in re.findall(r"\w+|[^\w\s]+", part)]
    )
    vocabulary = {word: i for i, word in enumerate(words)}
    assert len(vocabulary) < min(special.values()) and max(special.values()) < size - 1
    tokenizer = Tokenizer(models.WordLevel(vocabulary | special | {"<unk>": size - 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if "bos_token" in roles:
        begin = roles["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, special[begin])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        additional_special_tokens=[token for token in special if token not in roles.values()],
        **roles,
    )


def prompts(samples, image, pad, seed=0, words=50):
    """`input_ids` and `attention_mask` of samples of text lengths (int), which become drawn words, and images, which
    become what `image` makes of one and of the row so far."""
    rng, rows = random.Random(seed), []
    for sample in samples:
        row = []
        for part in sample:
            row += [rng.randrange(words) for _ in range(part)] if isinstance(part, int) else image(part, row)
        rows.append(row)
    return left_padded(rows, pad)


def images_of(samples):
    """The images of all samples, in order."""
    return [part for sample in samples for part in sample if not isinstance(part, int)]


def noise(seed, *shape):
    """Random pixels, the same for the same seed and shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_pixels(samples, shape, dtype):
    """`pixel_values` of the images, whose last part is their seed, as tiles of `shape(image)` one after the other."""
    pixels = [noise(image[-1], *shape(image)) for image in images_of(samples)]
    return {"pixel_values": torch.cat(pixels).to(dtype)} if pixels else {}


def left_padded(rows, pad):
    """`input_ids` and `attention_mask` of token lists of different lengths."""
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[pad] * (longest - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
    }


def random_model(tower, vocab, pad, begin, end, usual_dim=8, usual_seed=0, draw=lambda *_: None):
    """Makes of `configured(text, vision, **own)`, which returns a model, a function that returns it random and ready.

    Its parameters are those of `build`, and `own` ones.

    Args:
        tower: in the names of modules to leave alone.
        vocab, pad, begin, end: the decoder's vocabulary, and the ids of its special tokens.
        draw: `draw(path, parameter, sharpness)` draws other weights anew, before heads and layers are made to differ.
    """

    def made(configured):
        @functools.wraps(configured)
        def build(layers=8, query_heads=4, kv_heads=2, head_dim=usual_dim, dtype=torch.float32, attention="sdpa",
                  seed=usual_seed, sharpness=1.5, text=None, vision=None, **own):  # fmt: skip
            """`text` and `vision` replace values of configurations; `sharpness` makes heads and layers differ."""
            values = {
                "vocab_size": vocab,
                "hidden_size": query_heads * head_dim,
                "intermediate_size": 48,
                "num_hidden_layers": layers,
                "num_attention_heads": query_heads,
                "num_key_value_heads": kv_heads,
                "head_dim": head_dim,
                "max_position_embeddings": 4096,
                "pad_token_id": pad,
                "bos_token_id": begin,
                "eos_token_id": end,
            }
            torch.manual_seed(seed)
            model = configured(lambda **usual: values | usual | (text or {}), vision or {}, **own)
            with torch.no_grad():
                for path, parameter in model.named_parameters():
                    draw(path, parameter, sharpness)
            return ready(model, tower, sharpness, dtype, attention, pad, end)

        return build

    return made


def query_and_key_norms(path, parameter, sharpness):
    """Drawn for `random_model`."""
    if "q_norm" in path or "k_norm" in path:
        parameter.uniform_(0.5, 1.0 + sharpness)


def siglip_values(side, patch):
    """Of a small vision tower of SigLIP's kind."""
    return {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
    }


def ready(model, vision, sharpness, dtype, attention, pad, end):
    """The model to be used: heads and layers that differ in what they attend to, and its generation configuration.

    `vision` names the modules to leave alone. Biases are drawn too: they give a layer its own taste for vision.
    """
    with torch.no_grad():
        for name, parameter in model.eval().named_parameters():
            if parameter.ndim > 1 and vision not in name:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            if "q_proj" in name or "k_proj" in name:
                parameter.normal_(std=sharpness * (parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0))
    model = model.to(dtype)
    model.set_attn_implementation(attention)
    model.generation_config.pad_token_id = pad
    model.generation_config.eos_token_id = end
    return model
