"""lmms-eval's own wrapper of a family, run on a model that only listens."""

from types import SimpleNamespace

import torch


def wrapper_call(kind, processor, context, images, said, gen_kwargs, **attributes):
    """How a wrapper's own `generate_until` calls its model for one sample, and what it makes of the answer.

    Args:
        kind: the wrapper's class, made without its `__init__`, which would load a checkpoint.
        said: token ids, what the model answers.
        attributes: what that `__init__` sets, beside what wrappers have in common.

    Returns:
        the keyword arguments of `generate`, and the answer's text.
    """
    calls = []

    def generate(**arguments):
        calls.append(arguments)
        return torch.cat([arguments["input_ids"], torch.as_tensor(said)[None]], 1)

    def messages(sample):
        content = [{"type": "image", "url": image} for image in sample] + [{"type": "text", "text": context}]
        return [{"role": "user", "content": content}]

    wrapper = object.__new__(kind)
    vars(wrapper).update(
        {
            "processor": processor,
            "_processor": processor,
            "_tokenizer": processor.tokenizer,
            "_model": SimpleNamespace(generate=generate, device="cpu", dtype=torch.float32),
            "accelerator": SimpleNamespace(is_main_process=False, unwrap_model=lambda model: model),
            "_device": torch.device("cpu"),
            "device_map": "cpu",
            "_rank": 1,
            "batch_size_per_gpu": 1,
            "use_cache": True,
            "system_prompt": None,
            "reasoning_prompt": None,
            "interleave_visuals": False,
            "cache_hook": SimpleNamespace(add_partial=lambda *_: None),
            "task_dict": {"task": {"test": [images]}},
        }
        | attributes
    )
    asked = (messages, gen_kwargs) if ".chat." in kind.__module__ else (gen_kwargs, lambda sample: sample)
    (answer,) = wrapper.generate_until([SimpleNamespace(args=(context, *asked, 0, "task", "test"))])
    (call,) = calls
    return call, getattr(answer, "text", answer)
