"""Check the CUDA backend on a machine with an NVIDIA GPU, in a few minutes, print one table of what was found and store it.

- compile: the kernels of all ids, in many processes, so that what comes next measures no compilation.
- equality: every id in every autoreset mode plays the same episodes as on the CPU, in observations, rewards, flags, infos
  and the final state records. Bit for bit; but where kernels call functions of `math` that no standard rounds exactly (log,
  cos ...) floats may differ by RELATIVE. Ids that are measured play in every memory layout, all others in the default one.
- graph: a policy, a step and what resets lanes, captured as a CUDA graph and replayed, reach the same states as without.
- throughput: steps/s by number of environments and memory layout, of single calls and of a graph of STEPS of them, with
  random actions and autoreset in the same step, over whole episodes (or PERIOD steps). A call counts as one step per
  environment.
- threads: the same by the number of threads in a block, with THREADS_ENVS environments.
- learning: agents/ppo.py on the GPU, environments included, solves small rooms within a million steps.
- training: its steps/s in FourRooms by number of environments, of iterations that are one graph; eager and with --compile.

A check that fails is a row with its error, and the next one goes on. Rows are stored as they come, under the device's name,
in docs/benchmarks/gpu.json or the file given with --out; rows stored before stay until the same check is made again, unless
they come from other versions of Python or packages. In numba's simulator (NUMBA_ENABLE_CUDASIM=1) the equality check alone
runs, without a GPU, and nothing is stored without --out.
"""

import dataclasses
import importlib.metadata
import itertools
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal
from unittest import mock

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode
from rich.console import Console
from rich.table import Table

from explore_gym.envs import KERNEL_NAMES, NAMESPACE
from explore_gym.envs.engine.cuda import CudaVectorEnv, compile_ahead, find_device
from explore_gym.envs.engine.device import LAYOUTS, SIMULATED
from explore_gym.envs.engine.kernels import global_names, is_kernel, nested_codes

STORED = Path(__file__).parents[1] / "docs" / "benchmarks" / "gpu.json"
ROOMS = f"{NAMESPACE}/FourRooms-v0"  # of the graph
IDS = tuple(f"{NAMESPACE}/{name}" for name in KERNEL_NAMES)
MEASURED = tuple(f"{NAMESPACE}/{name}" for name in ("XLand-v0", "FourRooms-v0", "KeyRoom-v0", "MetaBandit-v0", "DeepSea-v0"))
CHECKS = ("equality", "graph", "throughput", "threads", "learning", "training")
PACKAGES = ("explore-gym", "gymnasium", "numpy", "numba", "numba-cuda", "torch")
EXACT = {"sqrt", "floor", "ceil", "fabs", "inf", "nan", "pi", "isnan", "isinf", "trunc"}  # of math, as IEEE 754 defines them
RELATIVE = {8: 1e-9, 4: 1e-6}  # largest relative difference of floats of that many bytes
EPISODE = 30  # steps that episodes of the equality check may have, so that many end
STEPS = 16  # in a graph whose speed is measured
PERIOD = 128  # steps that a measurement has at least, where episodes may be longer
THREADS, THREADS_ENVS = (32, 64, 128, 256), 262_144
SMALL_ROOMS = dict(env=ROOMS, env_kwargs='{"size": 9}', num_envs=1024, num_steps=16, total_timesteps=1_000_000)
SOLVED = 0.8  # return of a policy that finds the goal without detours in small rooms: 0.91 on the CPU, after as many steps
ITERATIONS, SETTLED = 16, 6  # of a training whose speed is measured; those before aren't


@dataclasses.dataclass
class Args:
    checks: tuple[Literal["equality", "graph", "throughput", "threads", "learning", "training"], ...] = CHECKS
    ids: tuple[str, ...] = IDS  # of the equality check
    measured: tuple[str, ...] = MEASURED  # ids whose speed is measured; the first two with other numbers of threads, too
    layouts: tuple[Literal["records", "fields"], ...] = LAYOUTS  # of measured ids; all others have the first
    num_envs: int = 128  # of the equality check
    num_steps: int = 70  # likewise
    batch_sizes: tuple[int, ...] = (4096, 16384, 65536, 262_144, 1_048_576)
    training_sizes: tuple[int, ...] = (1024, 4096, 16384, 65536)  # environments of PPO
    seconds: float = 0.2  # of one measurement, at least
    processes: int = os.cpu_count() or 1  # that compile ahead
    out: Path | None = None  # file for the rows in place of docs/benchmarks/gpu.json

    def __post_init__(self):
        for env_id in (*self.ids, *self.measured):
            if env_id not in IDS:
                raise ValueError(f"ids must be among {', '.join(IDS)}, got {env_id!r}")
        if not self.layouts:
            raise ValueError(f"layouts must be one or more of {LAYOUTS}, got none")

    def played(self):
        """The pairs of id and memory layout that are compiled and compared."""
        others = [env_id for env_id in self.ids if env_id not in self.measured]
        return [*itertools.product(self.measured, self.layouts), *((env_id, self.layouts[0]) for env_id in others)]


class Report:
    """Rows of checks. The file, if there is one, is rewritten after each."""

    def __init__(self, path, machine):
        self.path, self.machine, self.rows = path, machine, []
        self.stored = json.loads(path.read_text()) if path is not None and path.exists() else {}
        before = self.stored.get(machine["device"], {})
        self.before = before["rows"] if before.get("machine") == machine else []

    def run(self, check, name, function, *args):
        """Add the row that a check's function returns, a dict with `found`; an exception makes it a failure."""
        start = time.perf_counter()
        try:
            row = {"ok": True, **function(*args)}
        except Exception as error:
            lines = str(error).splitlines() or [""]
            row = {"ok": False, "found": f"{type(error).__name__}: {lines[0]}"}
        seconds, now = round(time.perf_counter() - start, 2), datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.rows.append({"check": check, "name": name, **row, "seconds": seconds, "time": now})
        print(f"{check} {name}: {'' if row['ok'] else 'FAILED, '}{row['found']}", file=sys.stderr, flush=True)
        if self.path is not None:
            self.store()

    def store(self):
        rows = {(row["check"], row["name"]): row for row in (*self.before, *self.rows)}
        self.stored[self.machine["device"]] = {"machine": self.machine, "rows": list(rows.values())}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(self.path.name + ".tmp")
        unfinished.write_text(json.dumps(self.stored, indent=1) + "\n")
        os.replace(unfinished, self.path)

    def table(self):
        """One line for each row of this run."""
        failed = sum(not row["ok"] for row in self.rows)
        title = f"{self.machine['device']}: {len(self.rows) - failed} of {len(self.rows)} checks passed"
        table = Table("check", "of", "", "found", "s", title=title)
        for row in self.rows:
            table.add_row(row["check"], row["name"], "ok" if row["ok"] else "FAILED", row["found"], f"{row['seconds']:.1f}")
        return table


def find_machine():
    """The device and what its results depend on.

    Raises:
        RuntimeError: there is no GPU.
    """
    installed = {distribution.name for distribution in importlib.metadata.distributions()}
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}
    facts = {"python": platform.python_version(), "versions": versions}
    device = find_device("cuda")
    if SIMULATED:
        return {"device": "simulator", **facts}
    properties = torch.cuda.get_device_properties(device)
    capability, memory = f"{properties.major}.{properties.minor}", properties.total_memory
    return {"device": properties.name, "capability": capability, "bytes": memory, "cuda": torch.version.cuda, **facts}


def compile_id(env_id, capability, layout):
    """Compile for the GPU and the CPU into their caches; the error, if there is one, as text."""
    try:
        for mode in AutoresetMode:
            compile_ahead(gym.make(env_id).unwrapped, mode, capability, layout)
    except Exception as error:
        return f"{env_id}, {layout}: {type(error).__name__}: {error}"
    envs = gym.make_vec(env_id, num_envs=2, autoreset_mode="SameStep")
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())


def compile_all(pairs, capability, processes):
    """All pairs of id and layout, in processes that don't touch the GPU."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(compile_id, env_id, capability, layout) for env_id, layout in pairs]
        failures = [failure for job in jobs if (failure := job.result())]
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(pairs)} don't compile, {failures[0]}")
    return {"found": f"kernels of {len(pairs)} pairs of id and layout, in {processes} processes"}


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


def play_both(env_id, layout, num_envs, num_steps):
    """Plays the same actions on the CPU and on the GPU, in every autoreset mode, and compares all that is returned."""
    inexact, largest, episodes = inexact_functions(gym.make(env_id).unwrapped), 0.0, 0
    for mode in AutoresetMode:
        options = dict(num_envs=num_envs, autoreset_mode=mode, max_episode_steps=EPISODE)
        with mock.patch.object(CudaVectorEnv, "layout", layout):
            ours = gym.make_vec(env_id, device="cuda", **options).unwrapped
        found, ended = play_mode(ours, gym.make_vec(env_id, **options).unwrapped, num_steps, inexact)
        if not ended:
            raise AssertionError(f"{mode.value}: no episode ended within {num_steps} steps")
        largest, episodes = max(largest, found), episodes + ended
    equal = "bit for bit" if largest == 0.0 else f"up to {largest:.1e} ({', '.join(inexact)})"
    return {"found": f"{equal}, {episodes} episodes in {len(AutoresetMode)} modes", "difference": largest, "episodes": episodes}


def play_mode(ours, theirs, num_steps, inexact):
    """The largest relative difference, also of the states at the end, and the number of episodes that ended."""
    mode = theirs.autoreset_mode
    check = lambda a, b, when: compare(a, b, ours.texts, inexact, f"{mode.value}, {when}")
    theirs.action_space.seed(0)
    largest, episodes = check(ours.reset(seed=1), theirs.reset(seed=1), "reset"), 0
    for step in range(num_steps):
        actions = theirs.action_space.sample()
        returned = theirs.step(actions)
        found = check(ours.step(torch.as_tensor(actions)), returned, f"step {step}")
        done = returned[2] | returned[3]
        episodes += int(done.sum())
        if mode is AutoresetMode.DISABLED and done.any():
            mask = torch.as_tensor(done, device=ours.device)
            again = theirs.reset(options={"reset_mask": done})
            found = max(found, check(ours.reset(options={"reset_mask": mask}), again, f"reset after step {step}"))
        largest = max(largest, found)
    states = [{name: state[name] for name in state.dtype.names} for state in (ours.get_state(), theirs.get_state())]
    return max(largest, check(*states, "state")), episodes


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


def make_on_gpu(env_id, num_envs, mode=AutoresetMode.SAME_STEP, layout=CudaVectorEnv.layout, threads=CudaVectorEnv.threads):
    """A batch that has been reset."""
    with mock.patch.multiple(CudaVectorEnv, layout=layout, threads=threads):
        envs = gym.make_vec(env_id, num_envs=num_envs, device="cuda", autoreset_mode=mode, copy=False).unwrapped
        envs.reset(seed=0)
    return envs


def replay_policy(mode, num_envs=4096, num_steps=300):
    """A linear policy, a step and, in DISABLED mode, a masked reset as a CUDA graph, against the same calls without one."""
    captured, plain = (make_on_gpu(ROOMS, num_envs, mode) for _ in range(2))
    torch.manual_seed(0)
    size, num_actions = math.prod(plain.single_observation_space["image"].shape), int(plain.single_action_space.n)
    weights = torch.randint(-9, 10, (size, num_actions), device=plain.device)
    weights = weights.float()  # integers, since their sums don't depend on the order of summation

    def act(envs, image):
        _, _, terminated, truncated, _ = envs.step((image.flatten(1).float() @ weights).argmax(1))
        if mode is AutoresetMode.DISABLED:
            envs.reset(options={"reset_mask": terminated | truncated})

    start = plain.get_state()
    image, other = (envs.set_state(start)["image"] for envs in (captured, plain))  # the engines' own: steps overwrite them
    graph = capture(lambda: act(captured, image))
    captured.set_state(start)  # warming up has moved it
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
    with torch.cuda.stream(stream):
        for _ in range(warm_up):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph


def random_actions(envs, num_steps):
    """Elements of the action space on the GPU, (num_steps, num_envs, ...)."""
    actions, shape = envs.env.actions, (num_steps, envs.num_envs, *envs.env.actions.shape)
    low, high = (torch.as_tensor(a, device=envs.device).reshape(actions.shape) for a in (actions.low, actions.high))
    uniform = torch.rand(shape, device=envs.device, dtype=torch.float64)
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


def measure(env_id, num_envs, seconds, layout, threads=CudaVectorEnv.threads):
    """Steps/s of single calls and of a graph of STEPS calls, and what the step kernel needs."""
    envs = make_on_gpu(env_id, num_envs, layout=layout, threads=threads)
    actions = random_actions(envs, STEPS)
    play = lambda: [envs.step(a) for a in actions]
    graph = capture(play, warm_up=1)
    period = min(envs.env.time_limit or STEPS, PERIOD)
    by_calls, in_graph = (steps_per_second(f, STEPS, num_envs, period, seconds) for f in (play, graph.replay))
    attributes, state_bytes = envs.kernel("step_lanes").attributes, envs.env.state_dtype.itemsize
    registers, local_bytes = attributes.num_regs, attributes.local_size_bytes
    envs.check()
    return {
        "found": f"{in_graph / 1e6:,.1f} M/s in a graph, {by_calls / 1e6:,.1f} M/s by single calls; "
        f"{registers} registers, {local_bytes} B local, state {state_bytes} B",
        "id": env_id,
        "num_envs": num_envs,
        "layout": layout,
        "threads": threads,
        "graph_per_second": in_graph,
        "calls_per_second": by_calls,
        "registers": registers,
        "local_bytes": local_bytes,
        "state_bytes": state_bytes,
    }


def train_ppo(**settings):
    """Rows of metrics of agents/ppo.py on the GPU."""
    from explore_gym.agents import common, ppo

    with tempfile.TemporaryDirectory() as folder:
        run = ppo.train(ppo.Args(**settings, device="cuda", run_dir=f"{folder}/run", quiet=True))
        return common.read_metrics(run.metrics_file)


def learn():
    """PPO with policy, environments and update in one graph must reach the return SOLVED."""
    rows = train_ppo(**SMALL_ROOMS)
    score = rows[-1]["episode_return"]
    if not score >= SOLVED:
        raise AssertionError(f"return {score:.3f} after {rows[-1]['step']:,} steps, at least {SOLVED} expected")
    return {"found": f"return {score:.3f} after {rows[-1]['step']:,} steps", "episode_return": score}


def train(num_envs, compiled):
    """Steps/s of PPO on FourRooms, environments included: the median of iterations that replay a graph."""
    num_steps = 16
    steps = ITERATIONS * num_steps * num_envs
    rows = train_ppo(env=ROOMS, num_envs=num_envs, num_steps=num_steps, total_timesteps=steps, compile=compiled)
    speed = statistics.median(row["sps"] for row in rows[SETTLED:])
    return {"found": f"{speed / 1e6:,.2f} M/s", "num_envs": num_envs, "compile": compiled, "steps_per_second": speed}


def make_checks(args, report):
    """In the simulator, which has neither graphs nor a speed, equality alone."""
    pairs = args.played()
    if not SIMULATED:
        report.run("compile", "all", compile_all, pairs, torch.cuda.get_device_capability(), args.processes)
    if "equality" in args.checks:
        for env_id, layout in pairs:
            if env_id in args.ids:
                report.run("equality", f"{env_id}, {layout}", play_both, env_id, layout, args.num_envs, args.num_steps)
    if "graph" in args.checks and not SIMULATED:
        for mode in AutoresetMode:
            report.run("graph", f"{ROOMS}, {mode.value}", replay_policy, mode)
    if "throughput" in args.checks and not SIMULATED:
        for env_id, num_envs, layout in itertools.product(args.measured, args.batch_sizes, args.layouts):
            name = f"{env_id}, {num_envs:,}, {layout}"
            report.run("throughput", name, measure, env_id, num_envs, args.seconds, layout)
    if "threads" in args.checks and not SIMULATED:
        for env_id, layout, threads in itertools.product(args.measured[:2], args.layouts, THREADS):
            name = f"{env_id}, {THREADS_ENVS:,}, {layout}, blocks of {threads}"
            report.run("threads", name, measure, env_id, THREADS_ENVS, args.seconds, layout, threads)
    if "learning" in args.checks and not SIMULATED:
        report.run("learning", "PPO in small rooms", learn)
    if "training" in args.checks and not SIMULATED:
        for num_envs, compiled in itertools.product(args.training_sizes, (False, True)):
            name = f"PPO on {ROOMS}, {num_envs:,}{', --compile' if compiled else ''}"
            report.run("training", name, train, num_envs, compiled)


def run(args):
    """Makes the checks that the arguments ask for, prints their table, also when interrupted, and returns the `Report`."""
    report = Report(args.out or (None if SIMULATED else STORED), find_machine())
    try:
        make_checks(args, report)
    finally:
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
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if all(row["ok"] for row in report.rows) else 1)


if __name__ == "__main__":
    main()
