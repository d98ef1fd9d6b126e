"""Idefics2: SigLIP in native resolution, each picture resampled to 64 latents, a Mistral decoder."""

import torch
from torch import Tensor, nn

from plphp_core.families.base import IMAGE_MARK, Family, count_marks, json_turns
from plphp_core.pruning.hf import encoded_images
from plphp_core.pruning.validation import require
from plphp_core.vision.token_geometry import grid

END_OF_UTTERANCE = "<end_of_utterance>"
CROPS = 5  # of a split image: its quarters, then the whole


class Idefics2(Family):
    """One image: 64 tokens between two text tokens; split, five such groups, 320 tokens.

    Prompt and pixels look alike for one split image and five adjacent ones; `model.config.do_image_splitting` tells
    them apart. `load` sets it; a model loaded by other means needs it only where a prompt could be read both ways.

    Attributes:
        image_splitting: whether `load` makes the model see the quarters of every image too. The released processor's
            own default is True; lmms-eval's wrapper says False.
    """

    name = "idefics2"
    title = "IDEFICS2"  # as the paper prints it
    model_classes = ("Idefics2ForConditionalGeneration",)
    default_checkpoint = "HuggingFaceM4/idefics2-8b"
    special_tokens = ("<fake_token_around_image>", IMAGE_MARK, END_OF_UTTERANCE)
    dtype = "float16"
    uses_chat_template = True
    options = ("image_splitting",)
    image_splitting = False
    no_patches = "its tokens come out of a resampler, which mixes all patches of a crop"

    def image_sizes(self, model: nn.Module, inputs: dict) -> list[int]:
        """As in `Family`.

        Raises:
            ValueError: the crops of split images do not come in fives, or it is unknown whether images are split.
        """
        latents = model.config.perceiver_config.resampler_n_latents
        pictures = _count_pictures(model, inputs, latents)
        if not pictures:
            return []
        images_of = _adjacent(inputs["input_ids"] == self.image_token_id(model), latents)
        by_five = all(run % CROPS == 0 for run in images_of)
        split = getattr(model.config, "do_image_splitting", None)
        require(
            split is not None or not by_five,
            f"{CROPS} adjacent pictures may be {CROPS} images or one image split into {CROPS} crops: set "
            "model.config.do_image_splitting to what processor.image_processor.do_image_splitting is",
        )
        require(
            by_five or not split,
            f"model.config.do_image_splitting = True, but not all pictures of the prompt come in groups of {CROPS}: "
            f"{images_of}; set it to what processor.image_processor.do_image_splitting is",
        )
        return [latents * CROPS] * (pictures // CROPS) if split else [latents] * pictures

    def token_boxes(self, model: nn.Module, inputs: dict, images: list[list] | None = None) -> list[Tensor]:
        """Latents look at their whole crop: the quarters of a split image, then all of it (`split_image`)."""
        latents = model.config.perceiver_config.resampler_n_latents
        crops = torch.cat([grid(2, 2), grid(1, 1)]).repeat_interleave(latents, dim=0)
        return [crops[-size:] for size in self.image_sizes(model, inputs)]

    def load_processor(self, checkpoint: str, revision: str | None, model: nn.Module):
        processor = super().load_processor(checkpoint, revision, model)
        processor.image_processor.do_image_splitting = model.config.do_image_splitting = self.image_splitting
        return processor

    # --- prompts ---------------------------------------------------------------------------------------------------

    def images(self, images: list) -> list:
        for width, height in (image.size for image in images if self.image_splitting):
            require(
                min(width, height) >= 2,
                f"image of {width} × {height} pixels: too small to be split into quarters; set image_splitting=false",
            )
        return images

    def prompt(self, context: str, num_images: int) -> str:
        """What the checkpoint's chat template makes of the images, unless the text marks them, and the text.

        lmms_eval: the text as it is, Multi-View's JSON too. plain: JSON becomes turns.
        """
        turns = (None if self.as_upstream else json_turns(context)) or [context]
        marks = count_marks(turns, num_images)
        in_front = IMAGE_MARK * (num_images - marks)
        text = ""
        for i, turn in enumerate(turns):
            # The template puts a space behind the colon unless the first part of a message is an image.
            text += f"{('User', 'Assistant')[i % 2]}:{in_front or ' '}{turn}{END_OF_UTTERANCE}\n"
            in_front = ""
        return text + "Assistant:"

    def encode(self, processor, prompts: list[str], images: list[list]) -> dict:
        """Pixels are `(samples, most images of a sample, 3, height, width)`, zero where a sample has fewer images.

        Text and images go separately, since transformers 5.17's image processor wants an image in the first sample.
        """
        inputs = processor(text=prompts, padding=True, padding_side="left", return_tensors="pt")
        with_images = [i for i, sample in enumerate(images) if sample]
        if with_images:
            pixels = processor.image_processor([images[i] for i in with_images], return_tensors="pt")
            for name, values in pixels.items():
                inputs[name] = values.new_zeros(len(images), *values.shape[1:])
                inputs[name][with_images] = values
        return inputs

    # --- answers ---------------------------------------------------------------------------------------------------

    def decode_answer(self, processor, ids: Tensor, gen_kwargs: dict) -> str:
        """lmms_eval: neither cut nor stripped. plain: stripped."""
        text = processor.tokenizer.decode(ids, skip_special_tokens=True)
        return text if self.as_upstream else text.strip()


def _count_pictures(model: nn.Module, inputs: dict, latents: int) -> int:
    """Pictures that the model encodes: images or crops, without those that only pad a sample's row."""
    if (encoded := encoded_images(inputs)) is not None:
        return sum(len(features) for features in encoded) // latents
    pixels = inputs.get("pixel_values")
    if pixels is None:
        return 0
    # The test that Idefics2Model.get_image_features makes, in the dtype in which it makes it.
    return int((pixels.to(model.dtype) != 0).flatten(2).any(-1).sum())


def _adjacent(is_image: Tensor, latents: int) -> list[int]:
    """How many pictures follow each other, for every place of the prompts that has some.

    Args:
        is_image: bool, `(batch, prompt_length)`.
    """
    runs: list[int] = []
    for row in is_image.cpu():
        end = None  # where the next picture begins if it is adjacent: one text token lies between
        for start in row.nonzero().flatten()[::latents].tolist():
            if start == end:
                runs[-1] += 1
            else:
                runs.append(1)
            end = start + latents + 1
    return runs
