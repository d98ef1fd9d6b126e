"""Mantis: SigLIP, a two-layer projector, a Llama 3 decoder; runs on transformers' LLaVA.

Upstream is the package `mantis` (github.com/TIGER-AI-Lab/Mantis: models/conversation.py and
models/mllava/processing_llava.py), which does not run on transformers 5.
"""

from torch import Tensor, nn

from plphp_core.families.base import IMAGE_MARK, Family, json_turns
from plphp_core.pruning.hf import encoded_images
from plphp_core.pruning.validation import require
from plphp_core.vision.token_geometry import grid

# Not a joke of this file: the conversation that the model was trained with begins so.
SYSTEM_PROMPT = "You are a pirate chatbot who always responds in pirate speak!"
TURN_END = "<|eot_id|>"
# Tokens of an image beside its patches, by the model type of the vision tower.
EXTRA_TOKENS = {"siglip_vision_model": 0, "clip_vision_model": 1}


class Mantis(Family):
    """Every image has equally many tokens, within a text that numbers it: `(image 1: <Image>…</Image>)`.

    `<Image>` and `</Image>` are ordinary text to the tokenizer.
    """

    name = "mantis"
    title = "Mantis"
    model_classes = ("LlavaForConditionalGeneration",)
    default_checkpoint = "TIGER-Lab/Mantis-8B-siglip-llama3"
    special_tokens = ("<|start_header_id|>", "<|end_header_id|>", TURN_END, IMAGE_MARK)
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
        return [_image_size(model.config.vision_config, strategy)] * len(pixels)

    def token_boxes(self, model: nn.Module, inputs: dict) -> list[Tensor]:
        """SigLIP's patches, row by row; the tower sees the whole image, squeezed, but for its last few pixels.

        No places are known for a CLIP tower: its processor crops to an extent that the inputs do not tell.
        """
        vision = model.config.vision_config
        if vision.model_type != "siglip_vision_model":
            return super().token_boxes(model, inputs)
        side = vision.image_size // vision.patch_size
        read = side * vision.patch_size / vision.image_size
        return [grid(side, side, (0.0, 0.0, read, read))[-size:] for size in self.image_sizes(model, inputs)]

    # --- loading ---------------------------------------------------------------------------------------------------

    def load(self, checkpoint: str | None = None, revision: str | None = None, *args, **kwargs):
        """As `Family.load`.

        Raises:
            ValueError: another model than Mantis on LLaVA's classes, such as LLaVA-1.5 with its Vicuna prompts.
        """
        checkpoint = checkpoint or self.default_checkpoint
        self._tokenizer(checkpoint, revision)  # before gigabytes of weights are read
        return super().load(checkpoint, revision, *args, **kwargs)

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        """Made from its parts: the released checkpoint names a processor that only the package `mantis` has."""
        from transformers import AutoImageProcessor, LlavaProcessor

        tokenizer, config = self._tokenizer(checkpoint, revision), model.config
        image_id = tokenizer.convert_tokens_to_ids(IMAGE_MARK)
        require(
            image_id == config.image_token_id,
            f"{IMAGE_MARK} is token {image_id}, but the model's configuration says {config.image_token_id}",
        )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = _pad_token(tokenizer, config)
        return LlavaProcessor(
            image_processor=AutoImageProcessor.from_pretrained(checkpoint, revision=revision, trust_remote_code=False),
            tokenizer=tokenizer,
            patch_size=config.vision_config.patch_size,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            num_additional_image_tokens=_extra_tokens(config.vision_config),
        )

    def _tokenizer(self, checkpoint: str, revision: str | None):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(checkpoint, revision=revision, trust_remote_code=False)
        known = tokenizer.get_vocab()
        missing = [token for token in self.special_tokens if token not in known]
        require(
            not missing,
            f"{checkpoint} has no {', '.join(missing)} in its vocabulary; family {self.name!r} talks to Mantis on "
            "Llama 3, and other LLaVA models need prompts of their own",
        )
        return tokenizer

    # --- prompts ---------------------------------------------------------------------------------------------------

    def prompt(self, context: str, num_images: int) -> str:
        """lmms_eval: the text as it is, Multi-View's JSON too; images without marks go in front of everything.

        plain: JSON becomes turns; images without marks go in front of the first question, as in the training data.
        """
        missing = _missing(context, num_images)
        if self.as_upstream:
            return _number(_place_as_upstream(_chat([context]), missing))
        first, *rest = json_turns(context) or [context]
        return _number(_chat([missing + first, *rest]))

    def encode(self, processor, prompts: list[str], images: list[list]) -> dict:
        """Nothing is truncated: upstream asks for it, but the tokenizer's limit of 10^30 tokens never cuts."""
        inputs = {"text": prompts, "padding": True, "padding_side": "left", "return_tensors": "pt"}
        flat = [image for sample in images for image in sample]
        return processor(**inputs, images=flat) if flat else processor(**inputs)

    # --- answers ---------------------------------------------------------------------------------------------------

    def end_tokens(self, processor) -> list[int]:
        """Llama 3 Instruct's two: the end of the text and the end of the turn."""
        tokenizer = processor.tokenizer
        return list(dict.fromkeys([tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN_END)]))

    def decode_answer(self, processor, ids: Tensor, gen_kwargs: dict) -> str:
        """lmms_eval: neither cut nor stripped. plain: stripped."""
        text = processor.tokenizer.decode(ids, skip_special_tokens=True)
        return text if self.as_upstream else text.strip()


def _image_size(vision_config, strategy: str) -> int:
    """Tokens of an image as `LlavaModel.get_image_features` makes them; "default" drops the first, be it a patch."""
    side = vision_config.image_size // vision_config.patch_size
    return side * side + _extra_tokens(vision_config) - (strategy == "default")


def _extra_tokens(vision_config) -> int:
    kind = vision_config.model_type
    require(kind in EXTRA_TOKENS, f"vision tower {kind!r} is not supported; known: {', '.join(EXTRA_TOKENS)}")
    return EXTRA_TOKENS[kind]


def _pad_token(tokenizer, config) -> str:
    """The configuration's pad token, or the end token; masked either way."""
    found = config.pad_token_id if getattr(config, "pad_token_id", None) is not None else tokenizer.eos_token_id
    return tokenizer.convert_ids_to_tokens(found)


def _chat(turns: list[str]) -> str:
    """Llama 3's layout. `<|begin_of_text|>` is the tokenizer's to add, so it is not in the text."""
    said = [("system", SYSTEM_PROMPT), *((("user", "assistant")[i % 2], turn) for i, turn in enumerate(turns))]
    text = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{turn}{TURN_END}" for role, turn in said)
    return text + "<|start_header_id|>assistant<|end_header_id|>\n\n"


def _missing(context: str, num_images: int) -> str:
    """The marks to add: all or none.

    Raises:
        ValueError: some marks, but not as many as images (upstream would add or drop marks silently).
    """
    marks = context.count(IMAGE_MARK)
    require(marks in (0, num_images), f"the prompt marks {marks} images with {IMAGE_MARK}, but there are {num_images}")
    return IMAGE_MARK * (num_images - marks)


def _place_as_upstream(chat: str, missing: str) -> str:
    """In front of the whole chat, or behind the name of a role of other templates that the text happens to hold."""
    for role in ("USER:", "Human:", "HUMAN:"):
        if role in chat:
            return chat.replace(role, role + missing, 1)
    return missing + chat


def _number(chat: str) -> str:
    """Every `<image>` becomes `(image i: <Image><image></Image>)`, i counting from 1."""
    first, *rest = chat.split(IMAGE_MARK)
    return first + "".join(f"(image {i}: <Image>{IMAGE_MARK}</Image>){part}" for i, part in enumerate(rest, 1))
