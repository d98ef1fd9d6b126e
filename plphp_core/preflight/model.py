"""The checkpoint's configuration: the family's class, sound geometry, and the very tensors that the weights hold."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator

from plphp_core.config.run_settings import check_method
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, first_line, ok, reason, warning
from plphp_core.preflight.checkpoint import checkpoint_files
from plphp_core.preflight.headers import TensorHeader
from plphp_core.preflight.units import plural

# Part of a tensor's name -> the key of config.json that gives its shape.
SHAPED_BY = {
    "embed_tokens": "text_config.vocab_size",
    "lm_head": "text_config.vocab_size",
    "k_proj": "text_config.num_key_value_heads or head_dim",
    "v_proj": "text_config.num_key_value_heads or head_dim",
    "q_proj": "text_config.num_attention_heads or head_dim",
    "o_proj": "text_config.num_attention_heads or head_dim",
    "gate_proj": "text_config.intermediate_size",
    "up_proj": "text_config.intermediate_size",
    "down_proj": "text_config.intermediate_size",
}
VISION_SHAPED_BY = {
    "patch_embed": "vision_config.patch_size",
    "position_embedding": "vision_config.image_size or patch_size",
}


@check("Configuration", needs=[checkpoint_files])
def configuration(case: Case) -> Iterator[Finding]:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as CLASSES

    family, file = case.family, case.checkpoint.folder / "config.json"
    wanted = " or ".join(family.model_classes)
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield failed(f"config.json cannot be read: {first_line(error)}", "copy or download config.json again")
        return
    if not isinstance(plain, dict):
        yield failed(f"config.json holds a {type(plain).__name__}, not an object", "copy or download config.json again")
        return
    another = (
        f"choose the model=… of this checkpoint, or a checkpoint of family {family.name} such as "
        f"{family.default_checkpoint} as model.checkpoint=…"
    )
    named = plain.get("architectures") or []
    named = [named] if isinstance(named, str) else named
    if named and not set(named) & set(family.model_classes):
        yield failed(f"config.json: architectures is {', '.join(named)}, but {family.title} is a {wanted}", another)
        return
    if not plain.get("text_config") and "hidden_size" not in plain:  # files of before text_config have its keys on top
        yield failed(
            "config.json says nothing of the decoder: text_config is missing or empty",
            "restore config.json from the original checkpoint",
        )
        return
    try:
        config = AutoConfig.from_pretrained(case.checkpoint.folder, trust_remote_code=False)
    except Exception as error:  # transformers checks values in its own ways, with its own exceptions
        yield failed(
            f"config.json is not accepted by transformers: {reason(error)}",
            "restore config.json from the original checkpoint"
            + ("; its model_type needs remote code, which is never run" if "auto_map" in plain else ""),
        )
        return
    found = CLASSES[type(config)].__name__ if type(config) in CLASSES else f"{config.model_type!r} model"
    if found not in family.model_classes:
        yield failed(
            f"config.json: model_type {config.model_type!r} makes a {found}, but {family.title} is a {wanted}", another
        )
        return
    case.config = config
    if getattr(config, "quantization_config", None):
        yield warning("the weights are quantized, which nobody has tried here", "prefer the checkpoint in bfloat16")
    yield ok(f"{found} for {family.title}")


@check("Decoder", needs=[configuration])
def decoder(case: Case) -> Iterator[Finding]:
    text = case.config.get_text_config(decoder=True)
    layers, hidden = text.num_hidden_layers, text.hidden_size
    heads, kv_heads = text.num_attention_heads, text.num_key_value_heads
    restore = "restore it in config.json from the original checkpoint"
    if kv_heads < 1 or heads % kv_heads:
        yield failed(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}", restore)
        return
    width = getattr(text, "head_dim", None) or hidden // heads
    if getattr(text, "head_dim", None) is None and hidden % heads:
        yield failed(f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}", restore)
        return
    section = (getattr(text, "rope_parameters", None) or {}).get("mrope_section")
    if section and 2 * sum(section) != width:
        yield failed(
            f"mrope_section {section} covers {2 * sum(section)} of the {width} numbers of a head",
            f"mrope_section's sum must be half of head_dim: {restore}",
        )
        return
    for row in case.settings.methods:
        method = check_method(row.name, row.params)
        try:
            if method is not None:
                method.check(layers)
        except ValueError as error:
            yield failed(
                f"{row.name} {row.setting} does not fit {layers} layers: {first_line(error)}",
                f"choose other parameters with method.…=…, or rows of {case.settings.table or 'a table'} that fit",
            )
    yield ok(f"{layers} layers, {heads} query and {kv_heads} KV heads of {width}, hidden size {hidden}")


@check("Weights", needs=[checkpoint_files, configuration])
def weights(case: Case) -> Iterator[Finding]:
    """What from_pretrained would only warn about, leaving random numbers where a tensor is missing."""
    try:
        case.model, info = _without_numbers(case.config, case.checkpoint.tensors)
    except Exception as error:  # whatever a model's constructor may complain about
        yield failed(
            f"no model can be built from config.json: {reason(error)}",
            "restore config.json from the original checkpoint",
        )
        return
    text = case.config.get_text_config(decoder=True)
    again = "restore config.json, or copy the weights again; they belong together"
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    if missing and len(unexpected) >= len(case.checkpoint.tensors):
        yield failed(
            f"no tensor name fits this family: the weights have {_some(unexpected)}, {case.family.title} needs "
            f"{_some(missing)}",
            "the weights are another model's, or their names were changed: copy the weights of this checkpoint",
        )
        return
    if layers := _whole_layers(missing, set(case.model.state_dict())):
        yield failed(
            f"layers {_numbers(layers)} are missing and would be random: {_some(missing)}",
            f"num_hidden_layers ({text.num_hidden_layers} in the decoder) is too large: {again}",
        )
    elif missing:
        yield failed(f"{plural(len(missing), 'tensor')} missing, which would be random: {_some(missing)}", again)
    for name, found, wanted in sorted(info["mismatched_keys"], key=str)[:1]:
        yield failed(
            f"{plural(len(info['mismatched_keys']), 'tensor')} of another shape than config.json says: {name} is "
            f"{tuple(found)}, not {tuple(wanted)}",
            f"{_shaped_by(name)} is wrong: {again}",
        )
    if layers := _layers(unexpected):
        yield failed(
            f"weights of layers {_numbers(layers)} that config.json does not have would be left out: "
            f"{_some(unexpected)}",
            f"num_hidden_layers ({text.num_hidden_layers} in the decoder) is too small: {again}",
        )
    elif unexpected:
        yield warning(
            f"{plural(len(unexpected), 'tensor')} not used: {_some(unexpected)}",
            "harmless if they belong to a part that is left out on purpose; else config.json is of another model",
        )
    if missing or info["mismatched_keys"] or _layers(unexpected):
        return
    kinds = sorted({tensor.dtype for tensor in case.checkpoint.tensors.values()})
    yield ok(
        f"{len(case.checkpoint.tensors)} tensors as config.json has them, stored as {', '.join(kinds)}, "
        f"loaded as {case.settings.model.dtype}"
    )


def _without_numbers(config, tensors: dict[str, TensorHeader]):
    """The model on the meta device, and what loading it would say; names go through transformers' own renaming."""
    import torch
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as CLASSES

    # Only shapes matter here, and any dtype has them.
    state = {name: torch.empty(one.shape, device="meta", dtype=torch.bfloat16) for name, one in tensors.items()}
    bar = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = CLASSES[type(config)].from_pretrained(
            None,
            config=config,
            state_dict=state,
            device_map="meta",
            dtype=torch.bfloat16,
            attn_implementation="sdpa",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    finally:
        if bar:
            transformers.utils.logging.enable_progress_bar()
    return model.eval(), info


def _layers(names: Iterable[str]) -> set[int]:
    return {int(number) for name in names for number in re.findall(r"\blayers\.(\d+)\.", name)}


def _whole_layers(missing: set[str], every: set[str]) -> set[int]:
    """Layers of which nothing is there, in one of the model's stacks."""

    def place(name: str) -> str:
        return (re.match(r".*\blayers\.\d+\.", name) or [""])[0]

    there = {place(name) for name in every - missing}
    return _layers(name for name in missing if place(name) not in there)


def _numbers(layers: Collection[int]) -> str:
    low, high = min(layers), max(layers)
    return str(low) if low == high else f"{low} … {high}"


def _some(names: Collection[str]) -> str:
    first, *rest = sorted(names)
    return first + (", …" if rest else "")


def _shaped_by(name: str) -> str:
    """The configuration's key that most likely gives this tensor its shape."""
    table = VISION_SHAPED_BY if re.search(r"vision|visual", name) else SHAPED_BY
    return next((key for part, key in table.items() if part in name), "a size in config.json")
