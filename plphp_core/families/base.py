"""What differs between model families, and nothing else."""

import json
from collections.abc import Iterable
from importlib.util import find_spec
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from plphp_core.pruning.tower import TokenPatches, Tower
from plphp_core.pruning.validation import require

IMAGE_MARK = "<image>"
# How prompts are made: as lmms-eval's wrapper of the family makes them, oddities included, or as the model's own
# documentation asks for. docs/fidelity.md lists what differs, family by family.
STYLES = ("lmms_eval", "plain")
DTYPES = {  # torch's names of what weights can be loaded as, with the short forms that are understood
    "float32": ("fp32", "float", "single"),
    "bfloat16": ("bf16",),
    "float16": ("fp16", "half"),
}


class Family:
    """A family of vision-language models; one subclass per module of this package.

    `transformers` is imported inside the methods, so that the names of all families are known without it.

    Args:
        style: how prompts are made, one of STYLES.
        options: values for the attributes that the family names in its `options`.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # as tables print it
    model_classes: ClassVar[tuple[str, ...]]  # transformers classes, by name
    default_checkpoint: ClassVar[str]
    upstream: ClassVar[str] = ""  # lmms-eval's id of the model, whose prompts tasks may have; empty: the family's name
    dtype: ClassVar[str] = "bfloat16"  # on a GPU, where nobody says otherwise; upstream's
    max_new_tokens: ClassVar[int] = 1024  # of lmms-eval's wrapper, where a task names no limit
    options: ClassVar[tuple[str, ...]] = ()  # attributes that a configuration may set
    special_tokens: tuple[str, ...] = ()  # what prompts are built from; each must be one token
    image_token: ClassVar[str] = IMAGE_MARK  # that the tokenizer reads `image_token_id` from
    uses_chat_template: bool = False  # `prompt` must equal what the checkpoint's own template renders
    packages: ClassVar[tuple[str, ...]] = ()  # that the processor imports, beside those of transformers itself
    no_patches: ClassVar[str] = "the family does not say which patches a token is made of"  # see `tower`
    located: ClassVar[bool] = False  # whether a vision token stands for one place of the image, see `token_boxes`

    def __init__(self, style: str = "lmms_eval", **options):
        require(style in STYLES, f"unknown prompt style {style!r}; allowed: {', '.join(STYLES)}")
        self.style = style
        for name, value in options.items():
            known = ", ".join(self.options) or "none"
            require(name in self.options, f"family {self.name!r} has no option {name!r}; known: {known}")
            kind = type(getattr(self, name))
            allowed = "; allowed: true, false" if kind is bool else ""
            said = f"option {name} of family {self.name!r} is a {kind.__name__}, got {value!r}{allowed}"
            require(type(value) is kind, said)
            setattr(self, name, value)

    @property
    def as_upstream(self) -> bool:
        """Whether prompts copy lmms-eval's wrapper, oddities included."""
        return self.style == "lmms_eval"

    # --- the model -------------------------------------------------------------------------------------------------

    def decoder(self, model: nn.Module) -> nn.Module:
        """The text decoder: has `.layers`, each with `.self_attn`, and `.config`."""
        return model.get_decoder()

    def image_token_id(self, model: nn.Module) -> int:
        return model.config.image_token_id

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        """Vision tokens of every image of the batch, in order.

        Args:
            inputs: what the model's forward was called with; under `generate()` see `hf.encoded_images`.
        """
        raise NotImplementedError(f"family {self.name!r} does not say how many tokens an image has")

    def token_boxes(self, model: nn.Module, inputs: dict, images: list[list] | None = None) -> list[Tensor]:
        """Where the vision tokens of every image of the batch lie on it, `(S_j, 4)` fp32 each, in order.

        A box is left, top, right, bottom as fractions of the image as it was handed to the processor, and may reach
        beyond it where the processor padded; nan for a token without a place, such as one that ends a row.

        Args:
            inputs: what the processor returned.
            images: per sample, as `encode` was given them; needed where the inputs do not tell their sizes (LLaVA-1.5).
        """
        return [torch.full((size, 4), torch.nan) for size in self.image_sizes(model, inputs)]

    def mutual(self, inputs: dict) -> bool:
        """Whether the tokens of an image see each other in both directions in the model called with `inputs`."""
        return False

    def added_features(self, decoder_kwargs: dict) -> list[Tensor]:
        """`(batch, prompt_length, hidden)` for layers 0, 1, … that the decoder adds to their outputs (DeepStack).

        Takes them out of the decoder's arguments: once tokens are withdrawn, they have to be shortened too.
        """
        return []

    def tower(self, model: nn.Module) -> Tower:
        """The vision tower, for methods that read its attention.

        Raises:
            ValueError: the family does not say which of its patches a token is made of, or no token is made of some.
        """
        raise ValueError(f"{self.no_patches}; take a method that looks at the tokens alone, such as divprune")

    def token_patches(self, model: nn.Module, inputs: dict) -> list[TokenPatches] | None:
        """Of which patches the tokens of every image of the batch are made, in order; None: it is not known.

        Args:
            inputs: what the processor returned.
        """
        return None

    def remember(self, model: nn.Module, cache) -> None:
        """While a turn is read: note at its cache what the model object holds of the conversation, if anything."""

    def resume(self, model: nn.Module, cache) -> None:
        """Before a turn: make the model object hold what was noted at `cache`; None starts a conversation."""

    # --- loading ---------------------------------------------------------------------------------------------------

    def load(
        self,
        checkpoint: str | None = None,
        revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: str = "cpu",
        attn_implementation: str = "sdpa",
    ) -> tuple[nn.Module, object]:
        """Model in evaluation mode and processor; safetensors only, no remote code.

        Args:
            checkpoint: hub name or folder; the family's default if None.
            dtype: "auto", a torch dtype, or a name that `dtype_name` knows.

        Raises:
            ValueError: an unknown dtype, a revision of a folder, or a checkpoint of another family.
            ImportError: one of `packages` is not installed.
        """
        from transformers import AutoModelForImageTextToText

        self.check_packages()  # before gigabytes of weights are read
        checkpoint = checkpoint or self.default_checkpoint
        if isinstance(dtype, str) and dtype != "auto":
            dtype = getattr(torch, dtype_name(dtype))
        folder = Path(checkpoint).is_dir()
        require(revision is None or not folder, f"revision {revision!r}: {checkpoint} is a folder, which has none")
        model = AutoModelForImageTextToText.from_pretrained(
            checkpoint,
            revision=revision,
            dtype=dtype,
            attn_implementation=attn_implementation,
            use_safetensors=True,
            trust_remote_code=False,
        )
        found = type(model).__name__
        require(
            found in self.model_classes,
            f"{checkpoint} is a {found}, but family {self.name!r} needs {' or '.join(self.model_classes)}",
        )
        # A checkpoint may have saved another implementation, which would win over the argument above.
        model.set_attn_implementation(attn_implementation)
        processor = self.load_processor(checkpoint, revision, model)
        processor.tokenizer.padding_side = "left"
        return model.to(device).eval(), processor

    def check_packages(self) -> None:
        """Raise ImportError if one of `packages` is not installed."""
        if missing := [name for name in self.packages if find_spec(name) is None]:
            named = " ".join(missing)
            raise ImportError(
                f"the processor of {self.title} needs what is not installed here: {named}; `pip install {named}`"
            )

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        """The processor saved with the checkpoint."""
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(checkpoint, revision=revision, trust_remote_code=False)

    # --- prompts, in the chosen style ------------------------------------------------------------------------------

    def images(self, images: list) -> list:
        """RGB images of one sample (PIL) → what the processor is given; upstream re-encodes them in some families."""
        return images

    def prompt(self, context: str, num_images: int) -> str:
        """lmms-eval's context → the full chat string, with one `<image>` mark per image.

        Raises:
            ValueError: the number of marks and images differ.
        """
        raise NotImplementedError(f"family {self.name!r} has no prompt")

    def encode(self, processor, prompts: list[str], images: list[list]) -> dict:
        """Chat strings and images (PIL, per sample, possibly none) → the model's inputs, padded on the left."""
        raise NotImplementedError(f"family {self.name!r} does not encode")

    def decode(self, processor, ids: Tensor, gen_kwargs: dict | None = None) -> str | list[str]:
        """Generated token ids `(n,)` → answer; a batch `(batch, n)` → a list of answers.

        Args:
            gen_kwargs: the task's generation arguments; `until` may cut the answer.
        """
        ids, gen_kwargs = torch.as_tensor(ids), gen_kwargs or {}
        require(ids.ndim in (1, 2), f"ids are {tuple(ids.shape)}, but must be (n,) or (batch, n)")
        if ids.ndim == 2:
            return [self.decode_answer(processor, row, gen_kwargs) for row in ids]
        return self.decode_answer(processor, ids, gen_kwargs)

    def decode_answer(self, processor, ids: Tensor, gen_kwargs: dict) -> str:
        """One answer `(n,)`, see `decode`, which families override here."""
        return processor.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def end_tokens(self, processor) -> list[int] | None:
        """Ids that end an answer, where the checkpoint's own generation configuration does not say; else None."""
        return None


def dtype_name(name: object) -> str:
    """torch's own name for a dtype or one of its short forms: "bf16" and "torch.bfloat16" are "bfloat16".

    Raises:
        ValueError: none of `DTYPES`.
    """
    plain = str(name).strip().lower().removeprefix("torch.")
    found = next((full for full, short in DTYPES.items() if plain in (full, *short)), None)
    known = ", ".join(f"{full} ({', '.join(short)})" for full, short in DTYPES.items())
    if found is None:
        raise ValueError(f"unknown dtype {name!r}; allowed: {known}")
    return found


def cut_at(text: str, ends: Any, ignored: Iterable[str] = ()) -> str:
    """The text up to the first of `ends`, a string or several, but for the `ignored` ones.

    Raises:
        ValueError: neither.
    """
    require(isinstance(ends, str | list | tuple), f"until = {ends!r}, but a string or a list of strings is needed")
    for end in [ends] if isinstance(ends, str) else ends:
        if end and end not in ignored:
            text = text.split(end)[0]
    return text


def through_jpeg(image, quality: int):
    """A PIL image after one trip through a JPEG file, RGB."""
    from PIL import Image

    with BytesIO() as file:
        image.save(file, format="JPEG", quality=quality)
        return Image.open(file).convert("RGB")


def token_runs(ids: Tensor, token: int) -> list[list[tuple[int, int]]]:
    """Start and length of every run of `token`, in each row of ids `(batch, prompt_length)`."""
    found: list[list[tuple[int, int]]] = []
    for row in (ids == token).tolist():
        at, runs = 0, []
        for wanted, same in groupby(row):
            length = len(list(same))
            runs += [(at, length)] if wanted else []
            at += length
        found.append(runs)
    return found


def refuse_tokens(context: str, tokens: tuple[str, ...]) -> None:
    """Raise ValueError if a text contains one of the tokens that a processor takes for images or videos."""
    for token in tokens:
        require(token not in context, f"the prompt contains {token}, which stands for pixels; mark images {IMAGE_MARK}")


def count_marks(texts: Iterable[str], num_images: int) -> int:
    """`<image>` marks in the texts of a prompt: none, or one per image.

    Raises:
        ValueError: some marks, but not as many as images.
    """
    marks = sum(text.count(IMAGE_MARK) for text in texts)
    require(marks in (0, num_images), f"the prompt marks {marks} images with {IMAGE_MARK}, but there are {num_images}")
    return marks


def place_marks(context: str, num_images: int) -> str:
    """Leave `<image>` marks where they are; without any, put one per image in front.

    Raises:
        ValueError: some marks, but not as many as images.
    """
    if count_marks([context], num_images) == num_images:
        return context
    return " ".join([IMAGE_MARK] * num_images) + "\n" + context


def json_turns(context: str) -> list[str] | None:
    """The turns' texts if the context is a JSON list of `{"from", "value"}` turns (Multi-View), else None.

    Raises:
        ValueError: the last turn is not the human's, or a turn has no text.
    """
    if not context.lstrip().startswith("["):
        return None
    try:
        turns = json.loads(context)
    except json.JSONDecodeError:
        return None  # a question that merely starts with a bracket
    if not turns or not all(isinstance(turn, dict) and "value" in turn for turn in turns):
        return None
    for turn in turns:
        require(isinstance(turn["value"], str), f"a turn says {turn['value']!r}, but must say a text")
    require(len(turns) % 2 == 1, f"a conversation of {len(turns)} turns does not end with the human's")
    return [turn["value"] for turn in turns]
