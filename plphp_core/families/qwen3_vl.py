"""Qwen3-VL: a Qwen3 decoder, into whose first layers the encoder's features go too (DeepStack)."""

from torch import Tensor

from plphp_core.families.qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """What lmms-eval's wrapper, models/simple/qwen3_vl.py, does differently from the one of Qwen2-VL.

    The model's own template, unlike its predecessors', puts in no system prompt where there is none.
    """

    name = "qwen3_vl"
    title = "Qwen3-VL"
    model_classes = ("Qwen3VLForConditionalGeneration",)
    default_checkpoint = "Qwen/Qwen3-VL-8B-Instruct"
    pixels = (256 * 28 * 28, 1605632)  # patches have 16 pixels now, the limits stayed
    jpeg_quality = None
    strips = False
    ignored_ends = ("\n\n",)
    plain_system_prompt = None

    def added_features(self, decoder_kwargs: dict) -> list[Tensor]:
        features, mask = (decoder_kwargs.pop(name, None) for name in ("deepstack_visual_embeds", "visual_pos_masks"))
        if features is None:
            return []
        mask = mask[..., None].to(features[0].device)
        return [one.new_zeros(*mask.shape[:2], one.shape[-1]).masked_scatter(mask, one) for one in features]
