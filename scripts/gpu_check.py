"""Check the CUDA backend on a machine with an NVIDIA GPU, in a few minutes, and print one table of what was found.

- equality: every id in every autoreset mode plays the same episodes as on the CPU, in observations, rewards, flags, infos
  and the final state records. Bit for bit; but where kernels call functions of `math` that no standard rounds exactly (log,
  cos ...) floats may differ by RELATIVE.
- graph: a policy and a step, captured as a CUDA graph and replayed, reach the same states as without.
- learning: an actor-critic on the GPU finds the goal of an empty room.
- throughput: steps/s by number of environments, of single calls and of a graph of STEPS of them, with random actions and
  autoreset in the same step, over whole episodes (or PERIOD steps); then block sizes and memory layouts at LAYOUT_ENVS
  environments. A call counts as one step per environment.

A check that fails is a row with its error, and the next one goes on. In numba's simulator (NUMBA_ENABLE_CUDASIM=1) the
equality check alone runs, without a GPU.
"""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import math
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode
from rich.console import Console
from rich.table import Table
from torch import nn

from explore_gym.envs import ENVIRONMENTS, NAMESPACE
from explore_gym.envs.engine.cuda import CudaVectorEnv, compile_ahead
from explore_gym.envs.engine.device import LAYOUTS, SIMULATED
from explore_gym.envs.engine.kernels import global_names, is_kernel, nested_codes

STORED = Path(__file__).parents[1] / "docs" / "benchmarks" / "gpu.json"
ROOMS, EMPTY = f"{NAMESPACE}/FourRooms-v0", f"{NAMESPACE}/Empty-v0"  # of the graph and of learning
IDS = tuple(f"{NAMESPACE}/{name}" for name in ENVIRONMENTS)
MEASURED = tuple(f"{NAMESPACE}/{name}" for name in ("FourRooms-v0", "KeyRoom-v0", "XLand-v0", "MetaBandit-v0", "DeepSea-v0"))
CHECKS = ("equality", "graph", "learning", "throughput")
PACKAGES = ("explore-gym", "gymnasium", "numpy", "numba", "numba-cuda", "torch")
EXACT = {"sqrt", "floor", "ceil", "fabs", "inf", "nan", "pi", "isnan", "isinf", "trunc"}  # of math, as IEEE 754 defines them
RELATIVE = {8: 1e-9, 4: 1e-4}  # largest relative difference of floats of that many bytes
EPISODE = 30  # steps that episodes of the equality check may have, so that many end
STEPS = 16  # in a graph whose speed is measured
PERIOD = 128  # steps that a measurement has at least, where episodes may be longer
LAYOUT_ENVS = 262_144
THREADS = (32, 64, 128, 256)


@dataclasses.dataclass
class Args:
    checks: tuple[Literal["equality", "graph", "learning", "throughput"], ...] = CHECKS
    ids: tuple[str, ...] = IDS  # of the equality check
    measured: tuple[str, ...] = MEASURED  # ids whose speed is measured
    num_envs: int = 128  # of the equality check
    num_steps: int = 70  # likewise
    batch_sizes: tuple[int, ...] = (4096, 16384, 65536, 262_144, 1_048_576)
    layout: Literal["records", "fields"] = CudaVectorEnv.layout  # of all checks but those that try both
    seconds: float = 0.3  # of one measurement, at least
    processes: int = os.cpu_count() or 1  # that compile ahead
    store: bool = False  # put the rows into docs/benchmarks/gpu.json, under the device's name
    out: Path | None = None  # the same with another JSON file

    def __post_init__(self):
        for env_id in (*self.ids, *self.measured):
            if env_id not in IDS:
                raise ValueError(f"ids must be among {', '.join(IDS)}, got {env_id!r}")


class Report:
    """Rows of checks. The file, if there is one, is rewritten after each and keeps what it says of other devices."""

    def __init__(self, path, machine):
        self.path, self.machine, self.rows = path, machine, []
        self.others = json.loads(path.read_text()) if path is not None and path.exists() else {}

    def run(self, check, name, function, *args):
        """Add the row that a check's function returns, a dict with `found`; an exception makes it a failure."""
        start = time.perf_counter()
        try:
            row = {"ok": True, **function(*args)}
        except Exception as error:
            lines = str(error).splitlines() or [""]
            row = {"ok": False, "found": f"{type(error).__name__}: {lines[0]}"}
        self.rows.append({"check": check, "name": name, **row, "seconds": round(time.perf_counter() - start, 2)})
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(self.path.name + ".tmp")
            devices = {**self.others, self.machine["device"]: {"machine": self.machine, "rows": self.rows}}
            temporary.write_text(json.dumps(devices, indent=1) + "\n")
            os.replace(temporary, self.path)

    def table(self):
        """One line for each row."""
        failed = sum(not row["ok"] for row in self.rows)
        title = f"{self.machine['device']}: {len(self.rows) - failed} of {len(self.rows)} checks passed"
        table = Table("check", "of", "", "found", "s", title=title)
        for row in self.rows:
            table.add_row(row["check"], row["name"], "ok" if row["ok"] else "FAILED", row["found"], f"{row['seconds']:.1f}")
        return table


def find_machine():
    """The device and what its results depend on."""
    installed = {distribution.name for distribution in importlib.metadata.distributions()}
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}
    facts = {"python": platform.python_version(), "versions": versions}
    if SIMULATED:
        return {"device": "simulator", **facts}
    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} finds no CUDA device")
    properties = torch.cuda.get_device_properties(0)
    capability, memory = f"{properties.major}.{properties.minor}", properties.total_memory
    return {"device": properties.name, "capability": capability, "bytes": memory, "cuda": torch.version.cuda, **facts}


def compile_id(env_id, capability, layout):
    """Compile for the GPU and the CPU into their caches; the error, if there is one, as text."""
    try:
        for mode in AutoresetMode:
            compile_ahead(gym.make(env_id).unwrapped, mode, capability, layout)
    except Exception as error:
        return f"{env_id}: {type(error).__name__}: {error}"
    envs = gym.make_vec(env_id, num_envs=2, autoreset_mode="SameStep")
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())


def compile_all(ids, capability, layout, processes):
    """All ids at once, in processes that don't touch the GPU."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(compile_id, env_id, capability, layout) for env_id in ids]
        failures = [failure for job in jobs if (failure := job.result())]
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(ids)} ids don't compile, {failures[0]}")
    return {"found": f"kernels of {len(ids)} ids, in {processes} processes"}


def inexact_functions(env):
    """Functions of `math` that the environment's kernels call and that a GPU may round in another way, sorted."""
    found, seen, pending = set(), set(), list(env.loops.kernels.values())
    while pending:
        function = pending.pop()
        function = getattr(function, "py_func", function)
        if function in seen:
            continue
        seen.add(function)
        names = set(global_names(function.__code__))
        if "math" in names:
            found |= {name for code in nested_codes(function.__code__) for name in code.co_names} & vars(math).keys()
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        pending += [value for value in (*map(function.__globals__.get, names), *cells) if is_kernel(value)]
    return sorted(found - EXACT)


def play_both(env_id, mode, num_envs, num_steps):
    """Plays the same actions on the CPU and on the GPU and compares everything that is returned, and the state at the end."""
    options = dict(num_envs=num_envs, autoreset_mode=mode, max_episode_steps=EPISODE)
    ours, theirs = gym.make_vec(env_id, device="cuda", **options).unwrapped, gym.make_vec(env_id, **options).unwrapped
    inexact = inexact_functions(theirs.env)
    theirs.action_space.seed(0)
    largest, episodes = compare(ours.reset(seed=1), theirs.reset(seed=1), ours.texts, inexact, "reset"), 0
    for step in range(num_steps):
        actions = theirs.action_space.sample()
        returned = theirs.step(actions)
        found = compare(ours.step(torch.as_tensor(actions)), returned, ours.texts, inexact, f"step {step}")
        done = returned[2] | returned[3]
        episodes += int(done.sum())
        if mode == "Disabled" and done.any():
            again = theirs.reset(options={"reset_mask": done})
            mask = torch.as_tensor(done, device=ours.device)
            found = max(found, compare(ours.reset(options={"reset_mask": mask}), again, ours.texts, inexact, f"reset {step}"))
        largest = max(largest, found)
    states = [{name: state[name] for name in state.dtype.names} for state in (ours.get_state(), theirs.get_state())]
    largest = max(largest, compare(*states, {}, inexact, "state"))
    if not episodes:
        raise AssertionError(f"no episode ended within {num_steps} steps")
    equal = "bit for bit" if largest == 0.0 else f"up to {largest:.1e} ({', '.join(inexact)})"
    return {"found": f"{equal}, {episodes} episodes", "difference": largest, "episodes": episodes}


def compare(ours, theirs, texts, inexact, path):
    """The largest relative difference of two nested values, tensors and arrays.

    Raises:
        AssertionError: keys, shapes, types or values differ; with inexact functions, floats by more than RELATIVE.
    """
    if isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            raise AssertionError(f"{path} has keys {sorted(ours)} here, {sorted(theirs)} on the CPU")
        return max([compare(ours[key], theirs[key], texts, inexact, f"{path}[{key!r}]") for key in theirs], default=0.0)
    if isinstance(theirs, tuple) and theirs and isinstance(theirs[0], str):
        strings = texts[path.rpartition("[")[2].strip("'\"]")]
        ours = tuple(strings[index] for index in ours.tolist())
        if ours != theirs:
            raise AssertionError(f"{path} is {ours} here, {theirs} on the CPU")
        return 0.0
    if isinstance(theirs, tuple):
        pairs = zip(ours, theirs, strict=True)
        return max(compare(a, b, texts, inexact, f"{path}[{i}]") for i, (a, b) in enumerate(pairs))
    ours = ours.cpu().numpy() if isinstance(ours, torch.Tensor) else ours
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        raise AssertionError(f"{path} is {ours.dtype} {ours.shape} here, {theirs.dtype} {theirs.shape} on the CPU")
    unequal = (ours != theirs) & ~((ours != ours) & (theirs != theirs))
    if not unequal.any():
        return 0.0
    index = tuple(np.argwhere(unequal)[0].tolist())
    message = f"{path}{list(index) or ''} is {ours[index]!r} here, {theirs[index]!r} on the CPU"
    if theirs.dtype.kind != "f" or not inexact:
        raise AssertionError(message)
    scale = np.maximum(np.abs(theirs[unequal].astype(float)), 1.0)
    largest = float(np.max(np.abs(ours[unequal].astype(float) - theirs[unequal]) / scale))
    if not largest <= RELATIVE[theirs.dtype.itemsize]:
        raise AssertionError(message)
    return largest


def features(obs, space, device="cuda"):
    """Numbers of an observation as float32 (num_envs, dim), bytes divided by 10; instructions are left out."""
    parts = obs if isinstance(obs, dict) else {"": obs}
    seen = [key for key in sorted(parts) if not (key and isinstance(space[key], gym.spaces.Text))]
    columns = [torch.as_tensor(parts[key], device=device).reshape(len(parts[key]), -1) for key in seen]
    return torch.cat([column.float() / (10.0 if column.dtype is torch.uint8 else 1.0) for column in columns], 1)


def make_on_gpu(env_id, num_envs, **options):
    envs = gym.make_vec(env_id, num_envs=num_envs, device="cuda", autoreset_mode="SameStep", copy=False, **options)
    envs.reset(seed=0)
    return envs.unwrapped


def replay_policy(env_id, num_envs=4096, num_steps=100):
    """A linear policy and a step as a CUDA graph, against the same calls without one."""
    captured, plain = make_on_gpu(env_id, num_envs), make_on_gpu(env_id, num_envs)
    space = captured.single_observation_space
    obs, other = captured.set_state(captured.get_state()), plain.set_state(plain.get_state())
    torch.manual_seed(0)
    weights = torch.randn(features(obs, space).shape[1], int(captured.single_action_space.n), device="cuda")

    def act(envs, obs):
        return envs.step((features(obs, space) @ weights).argmax(1) + int(envs.single_action_space.start))

    graph = capture(lambda: act(captured, obs))
    captured.set_state(plain.get_state())  # warming up has moved it
    with torch.no_grad():
        for _ in range(num_steps):
            graph.replay()
            act(plain, other)
    a, b = captured.get_state(), plain.get_state()
    for name in a.dtype.names:
        if a[name].tobytes() != b[name].tobytes():
            raise AssertionError(f"states differ in {name} after {num_steps} replays")
    return {"found": f"{num_steps} replays of policy and step reach the same {num_envs} states"}


def capture(function, warm_up=3):
    """A CUDA graph of the function's work."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(warm_up):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        function()
    return graph


def learn(make_envs, device, num_iterations=150, num_steps=16):
    """Advantage actor-critic with n-step returns (Mnih et al., 2016, arXiv:1602.01783).

    Returns the mean reward of a step in the first and in the last tenth of the iterations.
    """
    torch.manual_seed(0)
    envs = make_envs()
    space, num_actions = envs.single_observation_space, int(envs.single_action_space.n)
    obs = features(envs.reset(seed=0)[0], space, device)
    net = nn.Sequential(nn.Linear(obs.shape[1], 64), nn.Tanh(), nn.Linear(64, num_actions + 1)).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    history = []
    for _ in range(num_iterations):
        losses, rewards, steps = 0.0, [], []
        for _ in range(num_steps):
            out = net(obs)
            policy = torch.distributions.Categorical(logits=out[:, 1:])
            action = policy.sample()
            next_obs, *flow, _ = envs.step(action if device == "cuda" else action.numpy())
            reward, terminated, truncated = (torch.as_tensor(x, device=device).float() for x in flow)
            steps.append((out[:, 0], policy.log_prob(action), policy.entropy(), reward, torch.maximum(terminated, truncated)))
            rewards.append(reward.mean())
            obs = features(next_obs, space, device)
        value = net(obs)[:, 0].detach()
        for baseline, logprob, entropy, reward, done in reversed(steps):
            value = reward + 0.97 * (1.0 - done) * value
            advantage = value - baseline
            losses = losses + (0.5 * advantage**2 - logprob * advantage.detach() - 0.01 * entropy).mean()
        optimizer.zero_grad()
        (losses / num_steps).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        history.append(torch.stack(rewards).mean())
    history, tenth = torch.stack(history).tolist(), num_iterations // 10
    return float(np.mean(history[:tenth])), float(np.mean(history[-tenth:]))


def learn_on_gpu():
    first, last = learn(lambda: make_on_gpu(EMPTY, 2048), "cuda")
    if not last > 3 * first:
        raise AssertionError(f"mean reward of a step went from {first:.4f} to {last:.4f}, expected three times as much")
    return {"found": f"mean reward of a step from {first:.4f} to {last:.4f}"}


def random_actions(envs, num_steps):
    """Elements of the action space on the GPU, (num_steps, num_envs, ...)."""
    actions, shape = envs.env.actions, (num_steps, envs.num_envs, *envs.env.actions.shape)
    low, high = (torch.as_tensor(a, device="cuda").reshape(actions.shape) for a in (actions.low, actions.high))
    uniform = torch.rand(shape, device="cuda", dtype=torch.float64)
    if actions.dtype.kind == "f":
        return (low + uniform * (high - low)).to(torch.as_tensor(actions.low).dtype)
    return low + (uniform * (high - low + 1)).long()


def steps_per_second(play, num_steps, num_envs, period, seconds):
    """Speed of play(), which makes num_steps calls, over at least `period` calls and `seconds`; play() has been warmed up."""
    rounds = -(-period // num_steps)
    while True:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(rounds):
            play()
        end.record()
        end.synchronize()
        elapsed = start.elapsed_time(end) / 1000
        if elapsed >= seconds:
            return rounds * num_steps * num_envs / elapsed
        rounds *= max(2, int(seconds / max(elapsed, 1e-6)) + 1)


def measure(env_id, num_envs, args, threads=None, layout=None):
    """Steps/s of single calls and of a graph of STEPS calls, and what the step kernel needs."""
    chosen = {key: value for key, value in (("threads", threads), ("layout", layout)) if value is not None}
    with contextlib.ExitStack() as stack:
        for key, value in chosen.items():
            stack.enter_context(changed(CudaVectorEnv, key, value))
        envs = make_on_gpu(env_id, num_envs)
    actions = random_actions(envs, STEPS)
    play = lambda: [envs.step(a) for a in actions]
    period = min(envs.env.time_limit or STEPS, PERIOD)
    graph = capture(play, warm_up=1)
    speeds = {
        "calls_per_second": steps_per_second(play, STEPS, num_envs, period, args.seconds),
        "graph_per_second": steps_per_second(graph.replay, STEPS, num_envs, period, args.seconds),
    }
    attributes = envs.kernel("step_lanes").attributes
    env = envs.env
    needs = {
        "registers": attributes.num_regs,
        "local_bytes": attributes.local_size_bytes,
        "state_bytes": env.state_dtype.itemsize,
        "obs_bytes": int(np.dtype((env.observations.dtype, env.observations.shape)).itemsize),
    }
    envs.close()
    found = (
        f"{speeds['graph_per_second'] / 1e6:,.0f} M/s in a graph, {speeds['calls_per_second'] / 1e6:,.0f} M/s by single calls"
    )
    sizes = f"{needs['registers']} registers, {needs['local_bytes']} B local, state {needs['state_bytes']} B"
    return {"found": f"{found}; {sizes}", "num_envs": num_envs, **chosen, **speeds, **needs}


@contextlib.contextmanager
def changed(owner, name, value):
    """An attribute with another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def make_checks(args, report):
    checks = {"equality"} & set(args.checks) if SIMULATED else set(args.checks)
    if not SIMULATED:
        ids = tuple(dict.fromkeys((*args.ids, *args.measured, ROOMS, EMPTY)))
        capability = torch.cuda.get_device_capability()
        report.run("compile", "all", compile_all, ids, capability, args.layout, args.processes)
    if "equality" in checks:
        for env_id in args.ids:
            for mode in (mode.value for mode in AutoresetMode):
                report.run("equality", f"{env_id} {mode}", play_both, env_id, mode, args.num_envs, args.num_steps)
    if "graph" in checks:
        report.run("graph", ROOMS, replay_policy, ROOMS)
    if "learning" in checks:
        report.run("learning", EMPTY, learn_on_gpu)
    if "throughput" in checks:
        for env_id in args.measured:
            for num_envs in args.batch_sizes:
                report.run("throughput", f"{env_id} {num_envs:,}", measure, env_id, num_envs, args)
        for env_id, layout, threads in itertools.product(args.measured[:2], LAYOUTS, THREADS):
            name = f"{env_id} {LAYOUT_ENVS:,}, {layout}, blocks of {threads}"
            report.run("layout", name, measure, env_id, LAYOUT_ENVS, args, threads, layout)


def run(args):
    """Makes the checks that the arguments ask for, prints the table and returns the `Report`."""
    report = Report(args.out or (STORED if args.store else None), find_machine())
    with changed(CudaVectorEnv, "layout", args.layout):
        make_checks(args, report)
    console = Console()
    if not console.is_terminal:
        console.width = 180
    console.print(report.table())
    return report


def main():
    try:
        report = run(tyro.cli(Args, description=__doc__))
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0 if all(row["ok"] for row in report.rows) else 1)


if __name__ == "__main__":
    main()
