"""Mantis: prompts and their tokens, loading what upstream's package saved, image spans, the released geometry."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    SiglipVisionConfig,
)

from plphp_core import PLPHP, prune
from plphp_core.families import family_of, get_family
from plphp_core.families.mantis import _image_size
from tests.families.mantis_factory import (
    END_TOKEN,
    EOT,
    IMAGE_SIZE,
    IMAGE_TOKEN,
    SPECIAL,
    mantis_batch,
    mantis_processor,
    mantis_tokenizer,
    tiny_mantis,
)
from tests.families.pictures import picture, positions, spans

UPSTREAM, PLAIN = get_family("mantis"), get_family("mantis", "plain")
SYSTEM = (
    "<|start_header_id|>system<|end_header_id|>\n\n"
    "You are a pirate chatbot who always responds in pirate speak!<|eot_id|>"
)
USER = "<|start_header_id|>user<|end_header_id|>\n\n"
ANSWER = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
ONE, TWO = "(image 1: <Image><image></Image>)", "(image 2: <Image><image></Image>)"
TURNS = json.dumps(
    [
        {"from": "human", "value": "<image><image>\nWhere?"},
        {"from": "gpt", "value": "There."},
        {"from": "human", "value": "Why?"},
    ]
)
# SigLIP so400m at 384 pixels and Llama 3 8B, as in TIGER-Lab/Mantis-8B-siglip-llama3.
SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
SIGLIP |= {"image_size": 384, "patch_size": 14}
LLAMA3 = {"vocab_size": 128258, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
LLAMA3 |= {"num_attention_heads": 32, "num_key_value_heads": 8}


# --- prompts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "context, images, upstream, plain",
    [
        (
            "a <image> b <image>.",
            2,
            f"{SYSTEM}{USER}a {ONE} b {TWO}.{ANSWER}",
            f"{SYSTEM}{USER}a {ONE} b {TWO}.{ANSWER}",
        ),
        ("a", 2, f"{ONE}{TWO}{SYSTEM}{USER}a{ANSWER}", f"{SYSTEM}{USER}{ONE}{TWO}a{ANSWER}"),
        ("a USER: b", 1, f"{SYSTEM}{USER}a USER:{ONE} b{ANSWER}", f"{SYSTEM}{USER}{ONE}a USER: b{ANSWER}"),
        ("a", 0, f"{SYSTEM}{USER}a{ANSWER}", f"{SYSTEM}{USER}a{ANSWER}"),
        (
            TURNS,
            2,
            SYSTEM + USER + TURNS.replace("<image><image>", ONE + TWO) + ANSWER,
            f"{SYSTEM}{USER}{ONE}{TWO}\nWhere?{ANSWER}There.<|eot_id|>{USER}Why?{ANSWER}",
        ),
    ],
    ids=["in-place", "unmarked", "role-name", "text-only", "multi-view"],
)
def test_prompt_is_llama_3_with_upstreams_system_prompt_and_numbered_images(context, images, upstream, plain):
    assert UPSTREAM.prompt(context, images) == upstream
    assert PLAIN.prompt(context, images) == plain


@pytest.mark.parametrize("family", [UPSTREAM, PLAIN], ids=["lmms_eval", "plain"])
@pytest.mark.parametrize("context, images", [("look <image>", 3), ("look <image>", 0), ("<image><image>", 1)])
def test_marks_and_images_must_agree(family, context, images):
    marks = context.count("<image>")
    with pytest.raises(ValueError, match=f"marks {marks} images with <image>, but there are {images}"):
        family.prompt(context, images)


def test_tokens_begin_once_and_hold_each_image_between_its_tags():
    processor = mantis_processor()
    prompt = UPSTREAM.prompt("w1 <image> w2 <image>", 2)
    inputs = UPSTREAM.encode(processor, [prompt], [[picture(20, 9), picture(7, 30)]])
    image = ["<image>"] * IMAGE_SIZE
    expected = [
        *["<|begin_of_text|>", "<|start_header_id|>", "system", "<|end_header_id|>"],
        *["You", "are", "a", "pirate", "chatbot", "who", "always", "responds", "in", "pirate", "speak", "!"],
        *["<|eot_id|>", "<|start_header_id|>", "user", "<|end_header_id|>"],
        *["w1", "(", "image", "1", ":", "<", "Image", ">"], *image, *["</", "Image", ">)", "w2"],
        *["(", "image", "2", ":", "<", "Image", ">"], *image, *["</", "Image", ">)"],
        *["<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>"],
    ]  # fmt: skip
    assert processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist()) == expected
    assert inputs["pixel_values"].shape == (2, 3, 16, 16)


def test_answers_end_with_the_turn_or_the_text_and_only_plain_strips():
    processor = mantis_processor()
    assert UPSTREAM.end_tokens(processor) == PLAIN.end_tokens(processor) == [END_TOKEN, EOT]

    class Spaces:
        def decode(self, ids, skip_special_tokens):
            assert skip_special_tokens
            return " Arr \n\nmatey.\n"

    processor.tokenizer = Spaces()
    assert UPSTREAM.decode(processor, torch.tensor([1]), {"until": ["\n\n"]}) == " Arr \n\nmatey.\n"
    assert PLAIN.decode(processor, torch.tensor([1]), {"until": ["\n\n"]}) == "Arr \n\nmatey."


# --- loading -------------------------------------------------------------------------------------------------------


def as_upstream_saved(model, folder, tokenizer=None):
    """A checkpoint as `mantis` saves it: the old LLaVA's weight names, and a processor that transformers lacks."""
    weights = {}
    for name, weight in model.state_dict().items():
        name = name.removeprefix("model.")
        if name.startswith("language_model."):
            name = name.replace("language_model.", "language_model.model.", 1)
        if name.startswith("lm_head"):
            name = "language_model." + name
        if name.startswith("vision_tower.") and ".vision_model." not in name:
            name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        weights[name] = weight.clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    tokenizer = tokenizer or mantis_tokenizer()
    tokenizer.save_pretrained(folder)
    saved = folder / "tokenizer_config.json"
    saved.write_text(json.dumps(json.loads(saved.read_text()) | {"processor_class": "MLlavaProcessor"}))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "processor_class": "MLlavaProcessor",
                "image_processor_type": "SiglipImageProcessor",
                "size": {"height": 16, "width": 16},
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            }
        )
    )


@pytest.mark.parametrize("strategy", ["default", "full"])
def test_what_upstream_saved_loads_with_a_processor_made_for_it(tmp_path, strategy):
    model = tiny_mantis(layers=2, strategy=strategy)
    as_upstream_saved(model, tmp_path)
    loaded, processor = UPSTREAM.load(str(tmp_path), dtype="float32")
    assert isinstance(processor, LlavaProcessor) and processor.tokenizer.padding_side == "left"
    assert processor.tokenizer.pad_token == "<|pad|>"
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in loaded.state_dict().items())
    prompts, images = [UPSTREAM.prompt("w1", 1), UPSTREAM.prompt("w2", 0)], [[picture(30, 20)], []]
    inputs = UPSTREAM.encode(processor, prompts, images)
    expected = UPSTREAM.encode(mantis_processor(strategy=strategy), prompts, images)
    for name in expected:
        torch.testing.assert_close(inputs[name], expected[name])
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


def test_what_we_saved_loads_again(tmp_path):
    model = tiny_mantis(layers=2)
    as_upstream_saved(model, tmp_path)
    loaded, processor = PLAIN.load(str(tmp_path))
    loaded.save_pretrained(tmp_path / "again")
    processor.save_pretrained(tmp_path / "again")
    again, same = PLAIN.load(str(tmp_path / "again"))
    sample = [PLAIN.prompt("w1 <image>", 1)], [[picture(11, 23)]]
    inputs, expected = PLAIN.encode(same, *sample), PLAIN.encode(processor, *sample)
    assert all(torch.equal(inputs[name], expected[name]) for name in expected)
    assert torch.equal(again(**inputs).logits, loaded(**inputs).logits)


def test_other_llava_models_are_refused_before_their_weights_are_read(tmp_path):
    vicuna = {token: i for token, i in SPECIAL.items() if "header" not in token}
    mantis_tokenizer(vicuna).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no <\|start_header_id\|>, <\|end_header_id\|> in its vocabulary"):
        UPSTREAM.load(str(tmp_path))


def test_an_image_token_that_the_model_does_not_know_is_refused(tmp_path):
    as_upstream_saved(tiny_mantis(layers=2, image_token_index=41), tmp_path)
    with pytest.raises(ValueError, match="<image> is token 94, but the model's configuration says 41"):
        UPSTREAM.load(str(tmp_path))


# --- images --------------------------------------------------------------------------------------------------------


@given(counts=st.lists(st.integers(0, 3), min_size=1, max_size=3), strategy=st.sampled_from(["default", "full"]))
@settings(max_examples=12, deadline=None)
def test_spans_cover_exactly_the_image_tokens_that_the_processor_wrote(counts, strategy):
    model, processor = tiny_mantis(layers=4, strategy=strategy), mantis_processor(strategy=strategy)
    size = IMAGE_SIZE + (strategy == "full")
    prompts = [UPSTREAM.prompt("w1 " + "<image>" * n + " w2", n) for n in counts]
    images = [[picture(9 + j, 20 - i, j) for j in range(n)] for i, n in enumerate(counts)]
    inputs = UPSTREAM.encode(processor, prompts, images)
    for call in ("generate", "forward"):
        found = spans(model, inputs, call)
        assert [[len(image) for image in sample] for sample in found] == [[size] * n for n in counts]
        flat = [[token for image in sample for token in image] for sample in found]
        assert flat == positions(inputs["input_ids"], IMAGE_TOKEN)


def test_beams_repeat_the_images_of_their_sample():
    model, processor = tiny_mantis(layers=4), mantis_processor()
    prompts, images = [UPSTREAM.prompt("w1", 0), UPSTREAM.prompt("w1 w2", 2)], [[], [picture(9, 9), picture(8, 5)]]
    inputs = UPSTREAM.encode(processor, prompts, images)
    found = spans(model, inputs, num_beams=2)
    assert [[len(image) for image in sample] for sample in found] == [[], [], [15, 15], [15, 15]]


def test_a_full_retention_changes_nothing_in_a_padded_batch():
    model = tiny_mantis()
    batch = mantis_batch(model, [[4, (1,), 5], [3, (1,), (2,), 4, (3,), 6], [7]])
    plain = model.generate(**batch, max_new_tokens=6, do_sample=False)
    with prune(model, PLPHP(r=1.0, delta_r=0.0)):
        assert torch.equal(model.generate(**batch, max_new_tokens=6, do_sample=False), plain)


def test_any_llava_model_is_pruned_as_mantis_and_its_class_token_counts():
    """LLaVA-1.5's CLIP has a class token, which "default" drops."""
    assert family_of(tiny_mantis(layers=2)).name == "mantis"
    clip = CLIPVisionConfig(image_size=336, patch_size=14)
    assert _image_size(clip, "default") == 576 and _image_size(clip, "full") == 577
    with pytest.raises(ValueError, match="vision tower 'pixtral' is not supported; known: siglip_vision_model"):
        from transformers import PixtralVisionConfig

        _image_size(PixtralVisionConfig(), "full")


# --- the released geometry -----------------------------------------------------------------------------------------


def test_the_released_model_has_the_expected_decoder():
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**SIGLIP),
        text_config=LlamaConfig(**LLAMA3),
        image_token_index=128256,
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    assert 8.4e9 < sum(parameter.numel() for parameter in model.parameters()) < 8.6e9
    decoder = UPSTREAM.decoder(model)
    assert len(decoder.layers) == 32
    attention = decoder.layers[-1].self_attn
    assert (attention.q_proj.out_features, attention.k_proj.out_features, attention.head_dim) == (4096, 1024, 128)
    assert UPSTREAM.image_token_id(model) == 128256
    with prune(model, PLPHP()):
        pass


def test_an_image_has_728_tokens_or_729():
    """Upstream's training code leaves LLaVA's "default" in place, which drops SigLIP's first patch."""
    assert [_image_size(SiglipVisionConfig(**SIGLIP), strategy) for strategy in ("default", "full")] == [728, 729]


def test_pruning_at_the_released_depth_heads_and_image_size():
    """Layers, heads, pixels and patches are the released ones; hidden and head sizes are small."""
    heads = {"layers": 32, "query_heads": 32, "kv_heads": 8, "head_dim": 16}
    model = tiny_mantis(**heads, text={"hidden_size": 32}, vision={"image_size": 384, "patch_size": 14})
    processor = mantis_processor(384, 14)
    inputs = UPSTREAM.encode(processor, [UPSTREAM.prompt("w1 <image> w2", 1)], [[picture(640, 480)]])
    with torch.no_grad(), prune(model, PLPHP(r=0.5, delta_r=0.0)) as trace:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert [len(image) for image in trace.images[0]] == [728]
    assert int(trace.kv_bytes_full[0]) == 2 * 32 * 8 * 16 * 4 * inputs["input_ids"].shape[1]
    for layer, kept in enumerate(trace.kept):
        assert kept[0].shape == (8, 364 if 2 <= layer <= 30 else 728), f"layer {layer}"
