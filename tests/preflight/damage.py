"""Ways in which a checkpoint can be damaged: each takes the folder of a good copy and breaks one thing."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def edit(file: Path, **changes) -> None:
    """Set keys of a JSON file, `a__b` for nested ones; None removes the key."""
    content = json.loads(file.read_text())
    for path, value in changes.items():
        *parents, key = path.split("__")
        node = content
        for parent in parents:
            node = node[parent]
        if value is None:
            node.pop(key)
        else:
            node[key] = value
    file.write_text(json.dumps(content))


def tensors(folder: Path, change) -> None:
    """Rewrite model.safetensors with `change(dictionary of tensors)`."""
    file = folder / "model.safetensors"
    state = load_file(file)
    save_file(change(state) or state, file, metadata={"format": "pt"})


def shard(folder: Path) -> None:
    """Split model.safetensors in two files and an index, as larger checkpoints are."""
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, some in halves.items():
        save_file({name: state[name] for name in some}, folder / file, metadata={"format": "pt"})
    places = {name: file for file, some in halves.items() for name in some}
    index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def torn_config(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text[: len(text) // 2])


def torn_tokenizer(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text[: len(text) // 2])


def truncated_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    with file.open("rb+") as opened:
        opened.truncate(file.stat().st_size - 1000)


def pointer_instead_of_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 4\n")


def missing_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def swapped_shards(folder: Path) -> None:
    shard(folder)
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors")


def only_pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def other_architecture(folder: Path) -> None:
    edit(folder / "config.json", architectures=["LlavaNextForConditionalGeneration"])


def other_model_type(folder: Path) -> None:
    edit(folder / "config.json", model_type="llava_next", architectures=None)


def unknown_model_type(folder: Path) -> None:
    edit(folder / "config.json", model_type="llava_of_tomorrow", architectures=None)


def other_image_token(folder: Path) -> None:
    edit(folder / "config.json", image_token_index=7)


def image_token_beyond_vocabulary(folder: Path) -> None:
    edit(folder / "config.json", image_token_index=100000)


def without_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def without_special_token(folder: Path) -> None:
    """`<|im_start|>` becomes an ordinary word of another name."""
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace("<|im_start|>", "<|im_stort|>"))
    file = folder / "tokenizer_config.json"
    file.write_text(file.read_text().replace("<|im_start|>", "<|im_stort|>"))


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def without_processor(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


def more_layers(folder: Path) -> None:
    edit(folder / "config.json", text_config__num_hidden_layers=9, text_config__layer_types=["full_attention"] * 9)


def fewer_layers(folder: Path) -> None:
    edit(folder / "config.json", text_config__num_hidden_layers=7, text_config__layer_types=["full_attention"] * 7)


def layers_and_types_disagree(folder: Path) -> None:
    edit(folder / "config.json", text_config__num_hidden_layers=9)


def lost_tensor(folder: Path) -> None:
    tensors(folder, lambda state: {name: t for name, t in state.items() if "layers.3.mlp.up_proj" not in name})


def larger_vocabulary(folder: Path) -> None:
    edit(folder / "config.json", text_config__vocab_size=300)


def smaller_vocabulary(folder: Path) -> None:
    edit(folder / "config.json", text_config__vocab_size=200)


def other_kv_heads(folder: Path) -> None:
    edit(folder / "config.json", text_config__num_key_value_heads=4)


def uneven_kv_heads(folder: Path) -> None:
    edit(folder / "config.json", text_config__num_key_value_heads=3)


def other_patch_size(folder: Path) -> None:
    edit(folder / "processor_config.json", num_image_tokens=49)


def other_tile(folder: Path) -> None:
    edit(folder / "processor_config.json", image_processor__size={"height": 56, "width": 56})


def other_vision_patch_size(folder: Path) -> None:
    edit(folder / "config.json", vision_config__patch_size=16)


def short_window(folder: Path) -> None:
    edit(
        folder / "config.json",
        text_config__sliding_window=100,
        text_config__use_sliding_window=True,
        text_config__max_window_layers=0,
        text_config__layer_types=["sliding_attention"] * 8,
    )


def nan_weights(folder: Path) -> None:
    def change(state):
        name = next(name for name in state if "layers.4.mlp.gate_proj" in name)
        state[name] = state[name].clone()
        state[name][0, 0] = float("nan")

    tensors(folder, change)


def zero_weights(folder: Path) -> None:
    """What a sparse copy leaves behind: a file of the right size without content."""
    tensors(folder, lambda state: {name: torch.zeros_like(tensor) for name, tensor in state.items()})


def no_end_token(folder: Path) -> None:
    edit(folder / "generation_config.json", eos_token_id=None)


def config_of_no_object(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]")


def torn_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": 2,')


def pointer_instead_of_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 4\n")


def names_of_another_family(folder: Path) -> None:
    tensors(folder, lambda state: {f"other.{name}": tensor for name, tensor in state.items()})


def tokenizer_of_another_model(folder: Path) -> None:
    """One with other ids and too few words, in which all special tokens are there."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    longest = sorted((word for word in words if "<" not in word), key=words.get)[-8:]
    for word in longest:
        del words[word]
    marks = {token["content"]: token for token in content["added_tokens"]}
    one, other = marks["<image>"], marks["<video>"]
    one["id"], other["id"] = other["id"], one["id"]
    for name in marks.keys() & words.keys():
        words[name] = marks[name]["id"]
    content["added_tokens"].sort(key=lambda token: token["id"])
    file.write_text(json.dumps(content))


def same_logits(folder: Path) -> None:
    """Nothing is zero or infinite, and still every word is as likely as every other."""

    def change(state):
        for name in state:
            if name.endswith(("embed_tokens.weight", "lm_head.weight")):
                state[name] = torch.ones_like(state[name])

    tensors(folder, change)


def dangling_link(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "blobs" / "gone")


def rename_token(token: str):
    """Damage that turns a special token into an ordinary word of another name."""

    def damage(folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            file = folder / name
            file.write_text(file.read_text().replace(token, token[:-2] + "x" + token[-2:]))

    return damage


def editing(name: str, **changes):
    """Damage that edits a JSON file."""
    return lambda folder: edit(folder / name, **changes)


def template(old: str, new: str):
    """Damage that changes what the chat template says."""

    def damage(folder: Path) -> None:
        file = folder / "chat_template.jinja"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return damage
