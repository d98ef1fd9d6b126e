"""Tiny random Qwen-VL models of all three generations, their prompts and processors: no files, no network."""

import torch
import transformers

from tests.families.tiny_parts import images_of, noise, prompts, query_and_key_norms, random_model

IMAGE_TOKEN, PAD_TOKEN, EOS_TOKEN, VIDEO_TOKEN, START_TOKEN, END_TOKEN, VOCAB = 90, 91, 92, 93, 88, 89, 96
WORDS = 80
PATCH, MERGE, FRAMES = 4, 2, 2
SIDE = PATCH * MERGE  # pixels of a token
GENERATIONS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
CLASSES = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}


def norms_and_tower(path, parameter, sharpness):
    query_and_key_norms(path, parameter, sharpness)
    if "visual" in path and parameter.ndim > 1:
        parameter.normal_(std=2 * parameter[0].numel() ** -0.5)


@random_model("visual", VOCAB, PAD_TOKEN, None, EOS_TOKEN, usual_dim=16, draw=norms_and_tower)
def _tiny(text, vision, family):
    values = text()
    third, width = values["head_dim"] // 8, values["hidden_size"]
    sections = [values["head_dim"] // 2 - 2 * third, third, third]
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections}
    tower = {"depth": 2, "hidden_size": 16, "num_heads": 2}
    tower |= {"patch_size": PATCH, "spatial_merge_size": MERGE, "temporal_patch_size": FRAMES}
    if family == "qwen2_vl":
        tower |= {"embed_dim": 16, "hidden_size": width, "mlp_ratio": 2}
    elif family == "qwen2_5_vl":
        tower |= {
            "intermediate_size": 32,
            "out_hidden_size": width,
            "window_size": 2 * SIDE,  # windows of 2 × 2 tokens, so that larger images have several
            "fullatt_block_indexes": [1],
        }
    else:
        rope["mrope_interleaved"] = True
        tower |= {
            "depth": 4,
            "intermediate_size": 32,
            "out_hidden_size": width,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1, 2],
        }
    config = getattr(transformers, f"{CLASSES[family]}Config")(
        text_config=text(rope_parameters=rope),
        vision_config=tower | vision,
        image_token_id=IMAGE_TOKEN,
        video_token_id=VIDEO_TOKEN,
        vision_start_token_id=START_TOKEN,
        vision_end_token_id=END_TOKEN,
    )
    return getattr(transformers, f"{CLASSES[family]}ForConditionalGeneration")(config)


def tiny_qwen(family="qwen2_vl", **options):
    """A random model."""
    return _tiny(family=family, **options)


def image_inputs(images, dtype=torch.float32):
    """`pixel_values` and `image_grid_thw` of images (rows, columns, seed), in tokens; none for no images."""
    if not images:
        return {}
    pixels, grids = [], []
    for rows, columns, seed in images:
        pixels.append(noise(seed, rows * columns * MERGE**2, 3 * FRAMES * PATCH**2))
        grids.append([1, rows * MERGE, columns * MERGE])
    return {"pixel_values": torch.cat(pixels).to(dtype), "image_grid_thw": torch.tensor(grids)}


def qwen_batch(model, samples, seed=0):
    """Model inputs for `samples`, left-padded; a sample is text lengths and images, as in `image_inputs`, in order.

    Images stand between start and end tokens, as the chat template writes them.
    """

    def marks(image, row):
        return [START_TOKEN] + [IMAGE_TOKEN] * (image[0] * image[1]) + [END_TOKEN]

    inputs = prompts(samples, marks, PAD_TOKEN, seed, WORDS)
    inputs["mm_token_type_ids"] = (inputs["input_ids"] == IMAGE_TOKEN).long()
    return inputs | image_inputs(images_of(samples), model.dtype)


def tiny_qwen_processor(family="qwen2_vl", template=None, pixels=(SIDE**2, 4096), patch=PATCH):
    """A processor with a word-level tokenizer; its ids match `tiny_qwen`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = {
        "<|im_start|>": 87,
        "<|vision_start|>": START_TOKEN,
        "<|vision_end|>": END_TOKEN,
        "<|image_pad|>": IMAGE_TOKEN,
        "<|endoftext|>": PAD_TOKEN,
        "<|im_end|>": EOS_TOKEN,
        "<|video_pad|>": VIDEO_TOKEN,
    }
    vocabulary = {f"w{i}": i for i in range(WORDS)} | {"system": 80, "user": 81, "assistant": 82, ".": 83}
    words = Tokenizer(models.WordLevel(vocabulary | special | {"<unk>": 95}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=[token for token in special if token not in ("<|endoftext|>", "<|im_end|>")],
    )
    sizes = {"patch_size": patch, "merge_size": MERGE, "temporal_patch_size": FRAMES}
    video = "Qwen3VLVideoProcessor" if family == "qwen3_vl" else "Qwen2VLVideoProcessor"
    return getattr(transformers, f"{CLASSES[family]}Processor")(
        image_processor=transformers.Qwen2VLImageProcessor(
            size={"shortest_edge": pixels[0], "longest_edge": pixels[1]}, **sizes
        ),
        tokenizer=tokenizer,
        video_processor=getattr(transformers, video)(**sizes),
        chat_template=template,
    )
