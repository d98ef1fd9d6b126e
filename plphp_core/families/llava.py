"""What LLaVA-1.5, LLaVA-NeXT and Mantis share: loading, encoding, conversations; and images that are one crop."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from plphp_core.families.base import Family, count_marks, json_turns
from plphp_core.pruning.hf import encoded_images, tower_layers
from plphp_core.pruning.tower import TokenPatches, Tower
from plphp_core.pruning.validation import require
from plphp_core.vision.token_geometry import nowhere, raster

# Tokens of an image beside its patches, by the model type of the vision tower.
EXTRA_TOKENS = {"siglip_vision_model": 0, "clip_vision_model": 1}


class ChatLayout(NamedTuple):
    """What stands before and behind each question and each answer of a conversation."""

    question: tuple[str, str]
    answer: tuple[str, str]

    def write(self, turns: list[str]) -> str:
        """Questions and answers in turn, a question first; no system prompt."""
        return "".join(turn.join((self.question, self.answer)[i % 2]) for i, turn in enumerate(turns))


TURN_END = "<|eot_id|>"  # Llama 3's
VICUNA = ChatLayout(("USER: ", " ASSISTANT:"), (" ", "</s>"))
LLAMA3 = ChatLayout(
    (
        "<|start_header_id|>user<|end_header_id|>\n\n",
        f"{TURN_END}<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    ("", TURN_END),
)
# Of LLaVA's conversation `vicuna_v1`, a space behind it.
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)


class Llava(Family):
    """An image is one crop: as many tokens as the tower has patches.

    Several families are of the class `LlavaForConditionalGeneration`, and `prune` takes the first by name: what it asks
    of a family without being told which is here, and read off the model's configuration.
    """

    dtype = "float16"
    located = True

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        if (encoded := encoded_images(inputs)) is not None:
            return [len(features) for features in encoded]
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return []
        require(inputs.get("image_sizes") is None, "image_sizes: images of several sizes are not supported here")
        strategy = inputs.get("vision_feature_select_strategy") or model.config.vision_feature_select_strategy
        return [crop_size(model.config.vision_config, strategy)] * len(pixels)

    def token_boxes(self, model: nn.Module, inputs: dict, images: list[list] | None = None) -> list[Tensor]:
        """The tower's patches, row by row, over what its processor shows of the image.

        SigLIP's squeezes the image. CLIP's crops the central square, or pads to one: `model.config.image_aspect_ratio`,
        "crop" or "pad", says which, and is set by the family that loads such a model; without it no place is known.
        The tower's last pixels, fewer than a patch, belong to no token.

        Raises:
            ValueError: the boxes depend on the images' sizes, and `images` is not given.
        """
        sizes, vision = self.image_sizes(model, inputs), model.config.vision_config
        if vision.model_type == "siglip_vision_model":
            return [_boxes(vision, size, (0, 1), (0, 1)) for size in sizes]
        shown = getattr(model.config, "image_aspect_ratio", None)
        if shown not in ("crop", "pad"):
            return [nowhere(size) for size in sizes]
        require(
            images is not None or not sizes,
            f"the inputs of {type(model).__name__} do not tell how large the images were: call token_boxes(model, "
            "inputs, images) with the images that encode was given",
        )
        flat = [image for sample in images or () for image in sample]
        return [
            _boxes(vision, size, *_square(image.size, shown == "pad")) for size, image in zip(sizes, flat, strict=True)
        ]

    def tower(self, model: nn.Module) -> Tower:
        return vision_tower(model)

    def token_patches(self, model: nn.Module, inputs: dict) -> list[TokenPatches] | None:
        """A token is a patch; the class token is one where the tower has it and the model keeps it."""
        vision, tokens = model.config.vision_config, self.image_sizes(model, inputs)
        length = crop_size(vision, "full")
        return [TokenPatches(torch.arange(length - size, length)[:, None], length, length) for size in tokens]

    # --- loading ---------------------------------------------------------------------------------------------------

    def load(self, checkpoint: str | None = None, revision: str | None = None, *args, **kwargs):
        """As `Family.load`.

        Raises:
            ValueError: another model of the same class, which needs prompts of its own.
        """
        checkpoint = checkpoint or self.default_checkpoint
        self._tokenizer(checkpoint, revision)  # before gigabytes of weights are read
        return super().load(checkpoint, revision, *args, **kwargs)

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        """The saved one, told what it needs to write as many marks as the model makes features: old ones lack it."""
        processor, config = super().load_processor(checkpoint, revision, model), model.config
        processor.patch_size = config.vision_config.patch_size
        processor.vision_feature_select_strategy = config.vision_feature_select_strategy
        processor.num_additional_image_tokens = extra_tokens(config.vision_config)
        give_pad_token(processor.tokenizer, config)
        return processor

    def _tokenizer(self, checkpoint: str, revision: str | None):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(checkpoint, revision=revision, trust_remote_code=False)
        known = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
        missing = [token for token in self.special_tokens if token not in known]
        require(
            not missing,
            f"{checkpoint} lacks the special token {' and '.join(missing)}, which prompts of {self._asked_for()} are "
            "made of; other LLaVA models need prompts of their own",
        )
        return tokenizer

    def _asked_for(self) -> str:
        """This family, as errors name it."""
        return f"family {self.name!r}"

    # --- prompts and answers ---------------------------------------------------------------------------------------

    def encode(self, processor, prompts: list[str], images: list[list]) -> dict:
        inputs = {"text": prompts, "padding": True, "padding_side": "left", "return_tensors": "pt"}
        flat = [image for sample in images for image in sample]
        return processor(**inputs, images=flat) if flat else processor(**inputs)

    def decode_answer(self, processor, ids: Tensor, gen_kwargs: dict) -> str:
        """lmms_eval: neither cut nor stripped. plain: stripped."""
        text = processor.tokenizer.decode(ids, skip_special_tokens=True)
        return text if self.as_upstream else text.strip()


def vision_tower(model: nn.Module, pointwise: bool = True) -> Tower:
    """Of models with `vision_tower`, `multi_modal_projector` and one `vision_feature_layer`.

    Raises:
        ValueError: features of several layers are put together, or are those that enter the first.
    """
    config, vision = model.config, model.config.vision_config
    layer, depth = config.vision_feature_layer, vision.num_hidden_layers
    require(isinstance(layer, int), f"vision_feature_layer = {layer}: features of several layers are put together")
    # Negative numbers count hidden states, of which the last is the last layer's output; others begin with the input.
    number = depth + layer if layer < 0 else layer - 1
    require(
        0 <= number < depth,
        f"vision_feature_layer = {layer}: what the projector gets comes out of none of the tower's {depth} layers, but "
        f"the attention of one is read; allowed: 1 to {depth} and -{depth} to -1",
    )
    return Tower(
        layers=tower_layers(model.model.vision_tower, depth),
        feature_layer=number,
        projector=model.model.multi_modal_projector,
        class_token=vision.model_type != "siglip_vision_model",
        pointwise=pointwise,
    )


def crop_size(vision_config, strategy: str) -> int:
    """Tokens of an image as `LlavaModel.get_image_features` makes them; "default" drops the first, be it a patch."""
    side = vision_config.image_size // vision_config.patch_size
    return side * side + extra_tokens(vision_config) - (strategy == "default")


def extra_tokens(vision_config) -> int:
    kind = vision_config.model_type
    require(kind in EXTRA_TOKENS, f"vision tower {kind!r} is not supported; known: {', '.join(EXTRA_TOKENS)}")
    return EXTRA_TOKENS[kind]


def give_pad_token(tokenizer, config) -> None:
    """Batches need one: the configuration's, or the end token; masked either way."""
    if tokenizer.pad_token is None:
        own = getattr(config, "pad_token_id", None)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id if own is None else own)


def llama3_system(text: str) -> str:
    """How Llama 3's conversations begin. `<|begin_of_text|>` is the tokenizer's to add."""
    return f"<|start_header_id|>system<|end_header_id|>\n\n{text}{TURN_END}"


def llama3_ends(tokenizer) -> list[int]:
    """Llama 3 Instruct's two: the end of the text and the end of the turn."""
    return list(dict.fromkeys([tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN_END)]))


def turns_with_marks(context: str, num_images: int, in_front: str) -> list[str]:
    """The turns of a JSON conversation, or the text alone; without marks, `in_front` is put before the first.

    Raises:
        ValueError: some marks, but not as many as images.
    """
    first, *rest = json_turns(context) or [context]
    marks = count_marks([first, *rest], num_images)
    return [(first if marks else in_front + first), *rest]


def _square(size: tuple[int, int], padded: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """The square that the tower sees, of an image of `size` (width, height): its extent down and across the image, in
    fractions of it. Half of what is added or cut is in front; an odd pixel of padding is behind (`pad_to_square`).
    """
    width, height = size
    side = max(size) if padded else min(size)
    before = ((side - length) // 2 if padded else (side - length) / 2 for length in (height, width))
    down, across = ((-add / length, (side - add) / length) for add, length in zip(before, (height, width), strict=True))
    return down, across


def _boxes(vision, size: int, down: tuple[float, float], across: tuple[float, float]) -> Tensor:
    """Boxes of `size` tokens of a tower that sees the image's extent `down` and `across`: patches, a class token first,
    or without the first patch."""
    side = vision.image_size // vision.patch_size
    read = torch.linspace(0, side * vision.patch_size / vision.image_size, side + 1, dtype=torch.float64)
    rows, columns = (first + read * (last - first) for first, last in (down, across))
    boxes = raster(rows[:-1], rows[1:], columns[:-1], columns[1:])
    return torch.cat([nowhere(max(size - len(boxes), 0)), boxes[-size:]])
