"""`prune(model, method)`: hooks in, hooks out."""

import inspect
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from plphp_core.cache import PrunedLayer
from plphp_core.families import family_of
from plphp_core.generate_guard import guard_generate, unguard_generate
from plphp_core.method import Method
from plphp_core.prefill import Prefill, refuse_cache
from plphp_core.prompt import read_prompt
from plphp_core.trace import Trace


@contextmanager
def prune(model: nn.Module, method: Method | None, record_attention: bool = True) -> Iterator[Trace]:
    """Within the block, every prefill of `model` prunes its cache by `method`; `generate()` works as always.

    Blocks may be nested (the innermost one acts) and entered again. Each thread that opens a block of its own is on its
    own; a thread without one, such as a streaming worker, follows the block opened last. Continue a pruned cache, as in
    a second turn, inside a block too, of whatever method: masks must be told which slots are left.

    Args:
        model: a Hugging Face model of a known family.
        method: None changes nothing, refuses nothing, and still fills the trace where it can.
        record_attention: put γ of every layer into the trace; False leaves out (NaN) what the method does not ask for,
            so that a timing shows the method's own cost.

    Yields:
        the trace of the latest prefill.

    Raises:
        TypeError: unknown model class; the message lists the known ones.
        ValueError: parameters that do not fit the model; inside the block, calls that cannot be pruned.
    """
    session = _Session(model, method, record_attention)
    try:
        _open(session)
        yield session.trace
    finally:
        _close(session)


_SESSIONS: "weakref.WeakKeyDictionary[nn.Module, list[_Session]]" = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def _open(session: "_Session") -> None:
    with _LOCK:
        sessions = _SESSIONS.setdefault(session.model, [])
        sessions.append(session)
        if len(sessions) == 1:
            resume = partial(session.family.resume, session.model)
            guard_generate(session.model, lambda: _acting(session.model).method is not None, resume)
        session.install()


def _close(session: "_Session") -> None:
    with _LOCK:
        session.remove()
        sessions = _SESSIONS[session.model]
        sessions.remove(session)
        if not sessions:
            unguard_generate(session.model)
            del _SESSIONS[session.model]


def _acting(model: nn.Module) -> "_Session | None":
    """The session that acts in this thread: its own latest one, or, if it has none, the latest of all."""
    sessions = list(_SESSIONS.get(model, ()))
    own = [session for session in sessions if session.thread == threading.get_ident()]
    return (own or sessions or [None])[-1]


class _Session:
    """Hooks of one `prune` block on one model."""

    def __init__(self, model: nn.Module, method: Method | None, record_attention: bool):
        if method is not None and not isinstance(method, Method):
            raise TypeError(f"method = {method!r}, but a pruning method such as PLPHP() or None is needed")
        self.model, self.method, self.record_attention = model, method, record_attention
        self.family = family_of(model)
        self.decoder = self.family.decoder(model)
        self.num_layers = len(self.decoder.layers)
        if method is not None:
            method.check(self.num_layers)
        self.trace = Trace()
        self.thread = threading.get_ident()
        self.signature = inspect.signature(model.forward)
        self.handles = []
        self.state = threading.local()  # .acts: a forward of ours is running; .prefill: if it is a prefill

    def install(self) -> None:
        def on(module, register, hook):
            given = 3 if "pre" in register else 4  # module, args, kwargs, and the output behind it

            def whole(*arguments):
                # torch keeps hooks and their flags apart: one that another thread is just adding or removing may be
                # called without kwargs. It belongs to that thread's block and has nothing to do here.
                return hook(*arguments) if len(arguments) == given else None

            self.handles.append(getattr(module, register)(whole, with_kwargs=True))

        on(self.model, "register_forward_pre_hook", self._before_model)
        on(self.decoder, "register_forward_pre_hook", self._before_decoder)
        for layer, block in enumerate(self.decoder.layers):
            attention = block.self_attn
            on(block, "register_forward_pre_hook", self._before_layer)
            on(attention, "register_forward_pre_hook", self._mask_hook(layer))
            on(attention, "register_forward_hook", self._after_attention_hook(layer))
            self.handles.append(attention.q_proj.register_forward_hook(self._after_query))
        self.handles.append(self.model.register_forward_hook(self._after_model, always_call=True))

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def __deepcopy__(self, memo):
        raise TypeError("a model inside a prune block cannot be copied; copy it outside")

    @property
    def prefill(self) -> Prefill | None:
        return getattr(self.state, "prefill", None)

    @property
    def acts(self) -> bool:
        return getattr(self.state, "acts", False)

    @property
    def flash(self) -> bool:
        return "flash" in (self.decoder.config._attn_implementation or "")

    # --- hooks -----------------------------------------------------------------------------------------------------

    def _before_model(self, model, args, kwargs):
        self.state.prefill = None
        self.state.acts = _acting(model) is self
        if not self.state.acts:
            return
        inputs = self.signature.bind_partial(*args, **kwargs).arguments
        inputs |= inputs.pop("kwargs", {})
        ids, cache = inputs.get("input_ids"), inputs.get("past_key_values")
        seen = cache.get_seq_length() if cache is not None else 0
        if ids is None:
            embeds = inputs.get("inputs_embeds")
            if embeds is not None and embeds.shape[1] > 1 and self.method is not None:
                raise ValueError("inputs_embeds without input_ids: image tokens cannot be told apart; pass input_ids")
            return
        if inputs.get("position_ids") is None:  # else they are made already, in generate() after the guard's resume
            self.family.resume(model, cache if seen else None)
        if seen == 0:
            with self._excused():
                self.state.prefill = self._prefill(ids, inputs)
        elif self.method is None:
            return
        elif ids.shape[1] > 1 and bool((ids == self.family.image_token_id(model)).any()):
            raise ValueError(
                "new images on top of a filled cache cannot be pruned (the same happens with a chunked prefill); "
                "prefill the whole conversation at once, without past_key_values"
            )

    def _prefill(self, ids, inputs: dict) -> Prefill:
        mask = inputs.get("attention_mask")
        if isinstance(mask, dict):
            mask = mask.get("full_attention")
        sizes = self.family.image_sizes(self.model, inputs)
        prompt = read_prompt(ids, self.family.image_token_id(self.model), sizes, mask)
        if self.method is not None and self.method.withdraws:
            if prompt.ends_in_image:
                raise ValueError(f"{self.method.name} cannot withdraw the last token of a prompt that ends in an image")
            if inputs.get("labels") is not None:
                raise ValueError(f"labels: {self.method.name} withdraws tokens, so there are fewer logits than labels")
        return Prefill(prompt, self.method, self.trace, self.num_layers, self.record_attention)

    @contextmanager
    def _excused(self):
        """Without a method nothing can go wrong: what cannot be traced leaves the trace empty instead of raising."""
        try:
            yield
        except ValueError:
            self.state.prefill = None
            self.trace.start(None)
            if self.method is not None:
                raise

    def _before_decoder(self, decoder, args, kwargs):
        if _acting(self.model) is self and not self.acts and self.method is not None:
            raise ValueError(
                "call the whole model inside a prune block, not its decoder: image tokens are unknown here"
            )
        if self.prefill is None or self.method is None or not self.method.withdraws:
            return None
        self.prefill.added = self.family.added_features(kwargs)
        return args, kwargs

    def _before_layer(self, block, args, kwargs):
        prefill = self.prefill
        if prefill is None or (prefill.withdrawn is None and not prefill.stream.inputs and not prefill.added):
            return None
        hidden = args[0] if args else kwargs.pop("hidden_states")
        hidden, kwargs = prefill.enter_layer(hidden, kwargs, self.flash)
        return (hidden, *args[1:]), kwargs

    def _mask_hook(self, layer: int):
        def before_attention(attention, args, kwargs):
            cache = kwargs.get("past_key_values")
            if not self.acts or cache is None or self.prefill is not None:
                return None
            stored = cache.layers[layer] if layer < len(cache.layers) else None
            if not isinstance(stored, PrunedLayer) or not stored.is_initialized:
                return None
            hidden = args[0] if args else kwargs["hidden_states"]
            query_heads = attention.q_proj.out_features // attention.head_dim
            mask = stored.slot_mask(kwargs.get("attention_mask"), hidden.shape[1], query_heads, self.flash)
            return args, {**kwargs, "attention_mask": mask}

        return before_attention

    def _after_query(self, projection, args, output):
        if self.prefill is not None and self.prefill.has_vision:
            rows = 1 if self.method is None else self.method.query_rows
            # A clone, since a view of one row would keep all of them alive.
            self.prefill.query = output if rows is None else output[:, -rows:].clone()

    def _after_attention_hook(self, layer: int):
        def after_attention(attention, args, kwargs, output):
            cache = kwargs.get("past_key_values")
            if layer == 0 and self.acts and cache is not None and (self.prefill or output[0].shape[1] > 1):
                self.family.remember(self.model, cache)
            if self.prefill is None:
                return
            with self._excused():
                refuse_cache(cache, layer, self.prefill.prompt.image_of.shape[1])
            if self.prefill is None:
                return
            with torch.no_grad():
                self.prefill.leave_attention(layer, attention, cache, kwargs["position_embeddings"])

        return after_attention

    def _after_model(self, model, args, output):
        self.state.prefill, self.state.acts = None, False
