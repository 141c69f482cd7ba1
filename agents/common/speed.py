"""Small networks cost calls, not arithmetic: all parameters as one vector, functions as one compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


def flatten(module: nn.Module) -> nn.Parameter:
    """Moves all parameters of a module into one vector, in the order of `parameters()`, and returns it; they become its views.

    An optimizer of this vector makes one update where it would make one per parameter, to the same effect.
    `load_state_dict` writes through the views; moving the module to another device afterwards would cut them off.
    """
    parameters = list(module.parameters())
    vector = nn.Parameter(nn.utils.parameters_to_vector(parameters).detach())
    nn.utils.vector_to_parameters(vector.detach(), parameters)
    return vector


def compiled(function: Callable, module: nn.Module) -> Callable:
    """A function of tensors and dicts of tensors, which returns a tuple of such or a tensor, as one compiled graph.

    torch.autograd.grad in it becomes part of the graph. The graph reads the parameters and buffers that `module` has now,
    as they are at each call, and must not change them; whatever else the function uses is fixed by the first call, which
    compiles for seconds to a minute. New shapes compile anew. Nothing but shapes is checked in a call, so that a small
    graph takes half the time that torch.compile's takes.
    """
    wrapper = nn.Module()
    wrapper.module, wrapper.forward = module, function
    tensors = {**dict(wrapper.named_parameters()), **dict(wrapper.named_buffers())}
    state = [x.detach() for x in tensors.values()]  # views, without gradients of their own
    graphs: dict[tuple, Callable] = {}

    def call(*args: Any) -> Any:
        inputs = flat(args)
        signature = tuple([(x.shape, x.stride(), x.dtype) for x in inputs])
        if signature not in graphs:
            graphs[signature] = compile_graph(args)
        return graphs[signature](*state, *inputs)

    def compile_graph(args: tuple) -> Callable:
        from torch._inductor import compile
        from torch.fx.experimental.proxy_tensor import make_fx

        example: Any = None

        def traced(*inputs: torch.Tensor) -> list[torch.Tensor]:
            nonlocal example
            values = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs[: len(state)]]
            rebuilt = nested(inputs[len(state) :], args)
            example = torch.func.functional_call(wrapper, dict(zip(tensors, values)), rebuilt)
            return flat(example if isinstance(example, tuple) else (example,))

        inputs: list[Any] = [*state, *flat(args)]
        on_cpu = all(x.device.type == "cpu" for x in inputs)  # where calls between kernels count: none of them in Python
        graph = compile(make_fx(traced, tracing_mode="fake")(*inputs), inputs, options={"cpp_wrapper": on_cpu})
        return (lambda *xs: nested(graph(*xs), example)) if isinstance(example, tuple) else lambda *xs: graph(*xs)[0]

    return call


def flat(args: tuple) -> list[torch.Tensor]:
    """The tensors among args and in its dicts."""
    return [x for arg in args for x in (arg.values() if isinstance(arg, dict) else (arg,))]


def nested(tensors: Sequence[torch.Tensor], like: tuple) -> tuple:
    """The inverse of `flat`."""
    rest = iter(tensors)
    return tuple([dict(zip(x, rest)) if isinstance(x, dict) else next(rest) for x in like])
