"""Prefills that cannot be pruned, refused before anything is computed."""

from typing import Any

from torch import nn

from plphp_core.pruning import hf
from plphp_core.pruning.method import Method
from plphp_core.pruning.prompt import Prompt
from plphp_core.pruning.validation import require


def refuse_call(call: hf.ModelCall, decoder: nn.Module, length: int) -> None:
    """Raise ValueError if the cache or the attention of this forward over `length` tokens cannot be followed."""
    for layer, stored in enumerate(call.cache.layers if call.cache is not None else ()):
        hf.refuse_layer(stored, layer, length)
    require(
        hf.implementation(decoder.config) != "flex_attention",
        "attn_implementation='flex_attention': its block masks cannot follow the slots that are kept; use 'sdpa' "
        "or 'flash_attention_2', as in model.set_attn_implementation('sdpa')",
    )


def refuse_compiled(decoder: nn.Module) -> None:
    """Raise ValueError if a module in which a hook of ours should run was compiled by itself."""
    modules = [("the decoder", decoder)]
    for layer, block in enumerate(decoder.layers):
        modules += [(f"layer {layer}", block), (f"the attention of layer {layer}", block.self_attn)]
        modules.append((f"q_proj of layer {layer}", block.self_attn.q_proj))
    found = hf.compiled(modules)
    require(
        found is None,
        f"{found} was compiled by itself: hooks do not run in it, so that nothing can be pruned or traced; compile "
        "the whole model instead (inside a prune block it runs uncompiled)",
    )


def refuse_shortening(method: Method, prompt: Prompt, inputs: dict[str, Any]) -> None:
    """Raise ValueError if tokens of this prompt cannot be withdrawn."""
    require(
        not prompt.ends_in_image,
        f"{method.name} cannot withdraw the last token of a prompt that ends in an image: put text "
        "behind it, or take a method that compresses the cache alone, such as plphp",
    )
    require(
        inputs.get("labels") is None,
        f"labels: {method.name} withdraws tokens, so there are fewer logits than labels",
    )
    rows = inputs.get("logits_to_keep")
    require(
        rows is None or (isinstance(rows, int) and rows <= prompt.text_behind),
        f"logits_to_keep={rows!r}: {method.name} withdraws tokens, so that only the last "
        f"{prompt.text_behind} rows, text behind the last image, are where they were; ask for so many at most",
    )
