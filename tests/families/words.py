"""A word-level tokenizer for prompts known beforehand."""

import re


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


def left_padded(rows, pad):
    """`input_ids` and `attention_mask` of token lists of different lengths."""
    import torch

    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[pad] * (longest - len(row)) + row for row in rows]),
        "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
    }


def sharpen(model, vision, sharpness):
    """Make heads and layers differ in what they attend to; `vision` names the modules to leave alone."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and vision not in name:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            if "q_proj" in name or "k_proj" in name:
                parameter.normal_(std=sharpness * (parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0))
