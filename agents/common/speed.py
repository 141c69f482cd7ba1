"""Small networks cost calls, not arithmetic: all parameters as one vector, functions as one compiled or recorded graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

BETAS = 0.9, 0.999  # of Adam


class Adam(nn.Module):
    """Adam (Kingma and Ba, 2015) for all parameters of a module as one vector, which a graph made by `compiled` may step.

    The parameters become views of the vector: one update takes the place of one per parameter, to the same effect.
    `load_state_dict` writes through the views; moving the module to another device afterwards would cut them off.
    The step count and the learning rate are tensors, so that a graph reads them anew in each call.
    """

    vector: torch.Tensor
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor
    num_steps: torch.Tensor
    learning_rate: torch.Tensor

    def __init__(self, module: nn.Module, learning_rate: float, eps: float = 1e-8):
        super().__init__()
        parameters = list(module.parameters())
        vector = nn.utils.parameters_to_vector(parameters).detach()
        nn.utils.vector_to_parameters(vector, parameters)
        self.eps = eps
        self.register_buffer("vector", vector, persistent=False)  # the module has it
        self.register_buffer("exp_avg", torch.zeros_like(vector))
        self.register_buffer("exp_avg_sq", torch.zeros_like(vector))
        self.register_buffer("num_steps", vector.new_zeros(()))
        self.register_buffer("learning_rate", vector.new_tensor(learning_rate))

    def step(self, grad: torch.Tensor) -> None:
        """Moves the parameters against a gradient, one vector in the order of `module.parameters()`."""
        self.num_steps.add_(1)
        self.exp_avg.lerp_(grad, 1 - BETAS[0])
        self.exp_avg_sq.lerp_(grad.square(), 1 - BETAS[1])
        biases = [1 - beta**self.num_steps for beta in BETAS]
        scale = biases[1].sqrt()
        rate, eps = stored(torch.stack([self.learning_rate * scale / biases[0], self.eps * scale]))
        self.vector.sub_(rate * self.exp_avg / (self.exp_avg_sq.sqrt() + eps))


def stored(x: torch.Tensor) -> torch.Tensor:
    """x as a sum, which a compiled graph keeps, where it would compute x anew for each element of a result."""
    return torch.stack([torch.zeros_like(x), x]).cumsum(0)[1]


def compiled(function: Callable, *modules: nn.Module) -> Callable:
    """A function of tensors and dicts of tensors, which returns such or a tuple of them, as one compiled graph.

    torch.autograd.grad in it becomes part of the graph. The graph reads the parameters and buffers that `modules` have now,
    as they are at each call, and may change the buffers; whatever else the function uses is fixed by the first call, which
    compiles for seconds to a minute. New shapes compile anew. Nothing but shapes is checked in a call, and nothing stands
    between it and the compiled code, so that a small graph takes a third of the time that torch.compile's takes.
    """
    wrapper = nn.Module()
    wrapper.modules_used, wrapper.forward = nn.ModuleList(modules), function
    tensors = {**dict(wrapper.named_parameters()), **dict(wrapper.named_buffers())}
    memory: dict[int, torch.Tensor] = {}  # of tensors that share it the largest, of which the others are views
    for x in sorted(tensors.values(), key=torch.Tensor.numel, reverse=True):
        memory.setdefault(x.untyped_storage().data_ptr(), x.detach())
    state = list(memory.values())
    places = {name: list(memory).index(x.untyped_storage().data_ptr()) for name, x in tensors.items()}
    graphs: dict[tuple, Callable] = {}

    def call(*args: Any) -> Any:
        inputs = flat(args)
        signature = tuple([(x.shape, x.stride(), x.dtype) for x in inputs])
        if signature not in graphs:
            graphs[signature] = compile_graph(args)
        return graphs[signature](inputs)

    def compile_graph(args: tuple) -> Callable:
        example: Any = None

        def traced(*inputs: torch.Tensor) -> list[torch.Tensor]:
            nonlocal example
            values = {}
            for name, x in tensors.items():
                base, offset = inputs[places[name]], x.storage_offset() - state[places[name]].storage_offset()
                view = base.as_strided(x.shape, x.stride(), base.storage_offset() + offset)
                values[name] = view.detach().requires_grad_() if x.requires_grad else view
            example = torch.func.functional_call(wrapper, values, nested(inputs[len(state) :], args))
            return flat(example if isinstance(example, tuple) else (example,))

        graph = compile_inner(traced, [*state, *flat(args)])
        if isinstance(example, tuple):
            return lambda inputs: nested(graph([*state, *inputs]), example)
        return lambda inputs: nested(graph([*state, *inputs]), (example,))[0]

    return call


def compile_inner(function: Callable, inputs: list[torch.Tensor]) -> Callable:
    """Inductor's code for a function of tensors, from a list of them to a list of results; it may change its inputs.

    This is what torch.compile does without its guards and wrappers: trace to operations, write changes of tensors as new
    tensors that are copied back at the end, and compile that.
    """
    from torch._guards import TracingContext, tracing
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.config import patch
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    operations = make_fx(
        torch.func.functionalize(make_fx(function, tracing_mode="fake")(*inputs)), select_decomp_table(), "fake"
    )
    graph, mode = operations(*inputs), FakeTensorMode()
    on_cpu = all(x.device.type == "cpu" for x in inputs)  # where calls between kernels count: C++ makes them
    with tracing(TracingContext(mode)), V.set_fake_mode(mode), patch(cpp_wrapper=on_cpu):
        return compile_fx_inner(graph, [mode.from_tensor(x) for x in inputs], cpp_wrapper=on_cpu)


def captured(function: Callable[[], Any], device: torch.device, warm_up: int = 2) -> Callable[[], Any]:
    """A function without arguments that works on a GPU, as a CUDA graph; on a CPU the function itself.

    The first `warm_up` calls run as they are, the next one records the graph, which it and all others replay. So whatever the
    function reads and writes must stay where it is, and nothing in it may wait for the GPU. It returns the graph's tensors,
    which the next call overwrites.
    """
    if device.type != "cuda":
        return function
    stream = torch.cuda.Stream(device)
    graph: torch.cuda.CUDAGraph | None = None
    result: Any = None

    def call() -> Any:
        nonlocal graph, result, warm_up
        if warm_up > 0:
            warm_up -= 1
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                result = function()
            torch.cuda.current_stream(device).wait_stream(stream)
            return result
        if graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = function()
        graph.replay()
        return result

    return call


def permutation(n: int, device: torch.device) -> torch.Tensor:
    """The numbers below n in random order; on a GPU by sorting random keys, which a graph can hold."""
    if device.type != "cuda":
        return torch.randperm(n, device=device)
    return torch.rand(n, dtype=torch.float64, device=device).argsort()


def flat(args: tuple) -> list[torch.Tensor]:
    """The tensors among args and in its dicts."""
    return [x for arg in args for x in (arg.values() if isinstance(arg, dict) else (arg,))]


def nested(tensors: Sequence[torch.Tensor], like: tuple) -> tuple:
    """The inverse of `flat`."""
    rest = iter(tensors)
    return tuple([dict(zip(x, rest)) if isinstance(x, dict) else next(rest) for x in like])
