"""The hooks of one `prune` block on one model: what they read of a forward, and whom they call."""

import inspect
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import torch
from torch import nn

from plphp_core.families import family_of
from plphp_core.pruning import hf
from plphp_core.pruning.cache import PrunedLayer, RaggedLayer, renew
from plphp_core.pruning.encode_view import EncodeView, image_views
from plphp_core.pruning.method import Method
from plphp_core.pruning.open_blocks import acting
from plphp_core.pruning.prefill import Prefill
from plphp_core.pruning.prompt import Prompt, read_prompt
from plphp_core.pruning.refusals import refuse_call, refuse_compiled, refuse_shortening
from plphp_core.pruning.renumbering import Renumbering
from plphp_core.pruning.tower import TowerLayer, TowerWatch
from plphp_core.pruning.trace import Trace
from plphp_core.pruning.validation import choice, require
from plphp_core.pruning.view import check_query_rows

log = logging.getLogger(__name__)


@dataclass
class ForwardState:
    """What a thread knows of the forward it runs.

    Attributes:
        acts: whether the forward that runs belongs to this block.
        prefill: the prefill, if that forward is one.
        second: whether it is another prompt's than the caller's.
        traced: whether the call of `generate` around it has had its prefill; None outside of one.
        untraceable: whether what that call asks for cannot be traced.
        inputs: what the call of `generate` around it, or the forward itself, was given: the images' shapes are there.
        attending: what is to be undone when the forward ends.
    """

    acts: bool = False
    prefill: Prefill | None = None
    second: bool = False
    traced: bool | None = None
    untraceable: bool = False
    inputs: dict[str, Any] = field(default_factory=dict)
    attending: ExitStack = field(default_factory=ExitStack)


class Session:
    """Hooks of one `prune` block on one model."""

    def __init__(
        self, model: nn.Module, method: Method | None, record_attention: bool, around_work: Callable[..., Any]
    ):
        if method is not None and not isinstance(method, Method):
            raise TypeError(f"method = {method!r}, but a pruning method such as PLPHP() or None is needed")
        if method is not None:
            check_query_rows(method, method.query_rows)
        self.model, self.method, self.record_attention, self.around_work = model, method, record_attention, around_work
        self.family = family_of(model)
        self.decoder = self.family.decoder(model)
        self.trace = Trace()
        self.problem = "; ".join(hf.contract(model, self.decoder))
        if self.problem:
            self.problem = f"{type(model).__name__} does not work as plphp knows it: {self.problem}"
            self.trace.start(None, missing=self.problem)
        require(method is None or not self.problem, self.problem)
        self.num_layers = len(getattr(self.decoder, "layers", ()))
        if method is not None:
            method.check(self.num_layers)
            require(
                not (method.renumbers and hf.multimodal_rotary(self.decoder.config)),
                f"{method.name}: positions = 'compact', but {type(model).__name__} counts positions by time, row and "
                "column (M-RoPE), where counting anew has no meaning; use positions='keep'",
            )
        self.watch = None if method is None else self._watch(method)
        self.signature = inspect.signature(model.forward)
        self.handles: list[Any] = []
        self.renumbering = Renumbering(self.decoder)
        self._threads = threading.local()  # no subclass of it: torch.compile would read the defaults of its class

    def _watch(self, method: Method) -> TowerWatch | None:
        """Raises ValueError: the method reads a vision tower that the family does not locate, or that does not fit."""
        if method.tower_layer is None:
            return None
        choice(method.name, "tower_layer", method.tower_layer, get_args(TowerLayer))
        try:
            tower = self.family.tower(self.model)
            method.check_tower(tower)
            return TowerWatch(tower, method.tower_layer)
        except ValueError as error:
            raise ValueError(f"{method.name} reads the vision tower of {self.family.title}: {error}") from error

    def forget_tower(self) -> None:
        if self.watch is not None:
            self.watch.run = None

    def install(self) -> None:
        if self.problem:
            return
        if self.watch is not None:
            self.handles += self.watch.install()

        def on(module: nn.Module, register: str, hook: Callable[..., Any]) -> None:
            given = 3 if "pre" in register else 4  # module, args, kwargs, and the output behind it

            def whole(*arguments: Any) -> Any:
                # torch keeps hooks and their flags apart: one that another thread is just adding or removing may be
                # called without kwargs. It belongs to that thread's block and has nothing to do here.
                return hook(*arguments) if len(arguments) == given else None

            self.handles.append(getattr(module, register)(whole, with_kwargs=True))

        on(self.model, "register_forward_pre_hook", self._before_model)
        self.handles.append(self.model.register_forward_hook(self._after_prefill))
        on(self.decoder, "register_forward_pre_hook", self._before_decoder)
        for layer, block in enumerate(self.decoder.layers):
            attention = block.self_attn
            on(block, "register_forward_pre_hook", self._before_layer_hook(layer))
            on(attention, "register_forward_pre_hook", self._mask_hook(layer))
            on(attention, "register_forward_hook", self._after_attention_hook(layer))
            self.handles.append(attention.q_proj.register_forward_hook(self._after_query))
        self.handles.append(self.model.register_forward_hook(self._after_model, always_call=True))

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Session":
        raise TypeError("a model inside a prune block cannot be copied; copy it outside")

    @property
    def state(self) -> ForwardState:
        """Of the current thread."""
        state = getattr(self._threads, "state", None)
        if state is None:
            state = self._threads.state = ForwardState()
        return state

    @property
    def prefill(self) -> Prefill | None:
        return self.state.prefill

    @property
    def acts(self) -> bool:
        return self.state.acts

    @property
    def flash(self) -> bool:
        return hf.takes_padding_masks(self.decoder.config)

    # --- hooks -----------------------------------------------------------------------------------------------------

    def _before_model(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with self.around_work():
            self._read_call(model, args, kwargs)

    def _read_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.state.prefill = None
        self.state.acts = acting(model) is self
        if not self.state.acts:
            return
        call = hf.ModelCall.of(self.signature, args, kwargs)
        inputs, seen, ids = call.inputs, call.seen, call.inputs.get("input_ids")
        if ids is None:
            embeds = inputs.get("inputs_embeds")
            if embeds is not None and embeds.shape[1] > 1:
                with self._excused():
                    raise ValueError(
                        "inputs_embeds: the forward gets no input_ids (generate() drops them then), so that image "
                        "tokens cannot be told apart; leave inputs_embeds out"
                    )
            return
        if inputs.get("position_ids") is None:  # else they are made already, in generate() after the guard's resume
            self.family.resume(model, call.cache if seen else None)
        if self.state.untraceable:
            return
        if seen == 0:
            if self.state.traced is None:  # no generate() around it, which may have encoded the images
                self.state.inputs = inputs
                self.forget_tower()
            self._begin(ids, call)
            return
        if self.flash and call.cache is not None and any(isinstance(one, RaggedLayer) for one in call.cache.layers):
            # Its masks hold for all heads alike, but here heads hold different tokens. For this forward only; blocks of
            # several threads on one model under FlashAttention share the configuration that says so.
            self.state.attending.enter_context(hf.attending_by(self.decoder.config, "sdpa"))
        if self.method is None:
            return
        if ids.shape[1] > 1 and bool((ids == self.family.image_token_id(model)).any()):
            raise ValueError(
                "new images on top of a filled cache cannot be pruned (the same happens with a chunked prefill); "
                "prefill the whole conversation at once, without a cache"
            )

    def _begin(self, ids: torch.Tensor, call: hf.ModelCall) -> None:
        """Follow this forward as a prefill."""
        state = self.state
        state.second = bool(state.traced)
        if state.second:
            # Another prompt in one generate(), such as the unconditional one of classifier-free guidance, is none of
            # the caller's: it is pruned if it can be, and the trace stays as it is.
            with suppress(ValueError):
                state.prefill = self._prefill(ids, call)
            return
        if state.traced is False:
            state.traced = True
        with self._excused():
            self.trace.start(None, missing="the latest prefill did not come to its end")
            state.prefill = self._prefill(ids, call)

    def _prefill(self, ids: torch.Tensor, call: hf.ModelCall) -> Prefill:
        inputs = call.inputs
        if call.cache is not None:
            renew(call.cache)
        refuse_compiled(self.decoder)
        if self.method is not None:
            refuse_call(call, self.decoder, ids.shape[1])
        sizes = self.family.image_sizes(self.model, inputs)
        mutual = self.family.mutual(inputs)
        prompt = read_prompt(ids, self.family.image_token_id(self.model), sizes, call.prompt_mask(), mutual)
        if self.method is not None and self.method.shortens:
            refuse_shortening(self.method, prompt, inputs)
        prefill = Prefill(prompt, self.method, Trace(), self.num_layers, self.record_attention)
        if self.method is not None and self.method.encodes:
            prefill.encode_view = partial(self._encode_view, prompt)
        return prefill

    @contextmanager
    def _excused(self) -> Iterator[None]:
        """Without a method nothing may go wrong: what cannot be traced leaves the trace empty and says why."""
        try:
            yield
        except Exception as error:
            self.state.prefill = None
            if not self.state.second:
                self.trace.start(None, missing=str(error) or type(error).__name__)
            if self.method is not None:
                raise
            log.info("not traced: %s", error)

    def _before_decoder(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if acting(self.model) is self and not self.acts and self.method is not None:
            raise ValueError(
                "call the whole model inside a prune block, not its decoder: image tokens are unknown here"
            )
        if self.prefill is None or self.method is None or not self.method.shortens:
            return None
        self.prefill.added = self.family.added_features(kwargs)
        return args, kwargs

    def _before_layer_hook(self, layer: int) -> Callable[..., Any]:
        def before_layer(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            prefill = self.prefill
            if prefill is None or not prefill.concerns(layer):
                return None
            hidden, args, kwargs = hf.take_hidden(args, kwargs)
            with self._excused(), self.around_work() if prefill.decides(layer) else nullcontext():
                hidden, kwargs = prefill.enter_layer(self.decoder, layer, hidden, kwargs, self.flash)
            return (hidden, *args), kwargs

        return before_layer

    def _encode_view(self, prompt: Prompt, hidden: torch.Tensor) -> EncodeView:
        """Of a prompt that is about to enter the first layer, `hidden`."""
        patches = self.family.token_patches(self.model, self.state.inputs)
        run = None
        if self.watch is not None:
            run = self.watch.run
            require(run is not None and patches is not None, "the vision tower did not run inside the prune block")
        return EncodeView(hidden, prompt, image_views(hidden, prompt, patches, run), self.num_layers)

    def _mask_hook(self, layer: int) -> Callable[..., Any]:
        def before_attention(attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self.acts or self.prefill is not None:
                return None
            call = hf.AttentionCall.of(args, kwargs)
            layers = call.cache.layers if call.cache is not None else ()
            stored = layers[layer] if layer < len(layers) else None
            if not isinstance(stored, PrunedLayer) or not stored.is_initialized:
                return None
            mask = stored.slot_mask(call.mask, call.hidden.shape[1], hf.query_heads(attention), self.flash)
            if stored.removed is not None:
                kwargs = self.renumbering(attention, call.hidden, kwargs, stored.removed)
            return args, call.masked(kwargs, mask)

        return before_attention

    def _after_query(self, projection: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> None:
        if self.prefill is not None and self.prefill.has_vision:
            rows = self.prefill.query_rows
            # A clone, since a view of one row would keep all of them alive.
            self.prefill.query = output if rows is None else output[:, -rows:].clone()

    def _after_attention_hook(self, layer: int) -> Callable[..., None]:
        def after_attention(
            attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Any, ...]
        ) -> None:
            if layer > 0 and self.prefill is None:
                return
            call = hf.AttentionCall.of(args, kwargs)
            if layer == 0 and self.acts and call.cache is not None and (self.prefill or output[0].shape[1] > 1):
                self.family.remember(self.model, call.cache)
            if self.prefill is None:
                return
            with self._excused(), torch.no_grad(), self.around_work():
                hf.refuse_cache(call.cache, layer, self.prefill.prompt.image_of.shape[1])
                self.prefill.leave_attention(layer, attention, call.cache, call.position_embeddings)

        return after_attention

    def _after_prefill(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.prefill is None:
            return
        with self._excused():
            layers = len(self.prefill.trace.layers)
            require(
                layers == self.num_layers,
                f"hooks ran in {layers} of {self.num_layers} layers: the model's forward, or part of it, was compiled "
                "or replaced by itself, and its other layers hold everything; use the model as it was loaded",
            )
            self.prefill.check.verify()
            if not self.state.second:
                self.trace.become(self.prefill.trace)

    def _after_model(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.state.attending.close()
        self.state.prefill, self.state.acts = None, False
