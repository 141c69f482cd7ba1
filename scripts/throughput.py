"""Measure steps per second: of every id at several batch sizes, beside peers (--compare), and of PPO training (--train,
--settings).

--envpool: every task of Minigrid that EnvPool has too. --jax: XLand-MiniGrid on the nearest task and gymnax on DeepSea, which
the interpreter --peer-python runs (docs/benchmarks.md says how to make it), and the steps of all agents in worlds for several.

How it is measured:
- Actions are sampled in advance. Warm-up (compilation included) comes first and isn't timed. The clock is read once per
  chunk of calls, of at least 10 ms and a whole episode of the time limit, so that each has its share of resets.
- A call counts as one step per environment, autoreset calls included; of a single environment each reset counts as one step.
- Every call returns fresh arrays unless --no-copy is given; C loops always write into the same arrays.
- A figure is the median over rounds. A comparison runs both sides in alternation and takes the ratio in each round, so that a
  busy machine slows both; the median ratio decides, its range says how far to trust it. Absolute figures are for orientation.
- What is written in JAX runs in a process of its own, on one thread of one core, vmap and jit of the step with autoreset.
  XLand-MiniGrid has one task of ours for each world, which it keeps (our worlds draw another one for each episode); DeepSea is
  the same task on both sides, of size 8. With `taskset -c 0` both sides run on that core.
- Training runs agents/ppo.py, eager and with --compile, and the PPO of stable-baselines3 and, where --cleanrl names their
  ppo.py, of CleanRL in alternation, each in a process of its own with --num-threads torch threads: the same environment
  (ours in Gymnasium's or our vector form, theirs one by one, as they make them) and hyperparameters (stable-baselines3's
  defaults with 8 environments, or ours with 32), two separate 64-64 tanh networks on the same inputs. The ratio of steps/s
  leaves out imports, compilation and the first iteration of all; the ratio of wall-clock times has them in, and compilation
  from nothing in its first round, from the cache that this has left in the others.
- Settings of training: ours alone, FourRooms, rollouts of 128 steps and 4 epochs of 4 minibatches, by environments, torch
  threads and --compile, iterations after the first.
"""

import contextlib
import ctypes
import dataclasses
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from explore_gym.envs import ENVIRONMENTS, KERNEL_NAMES, NAMESPACE, VARIANTS
from explore_gym.envs.xland.drawing import COLOR_NAMES, TILE_NAMES
from explore_gym.envs.xland.logic import HOLD, is_agent

STORED = Path(__file__).parents[1] / "docs" / "benchmarks" / "throughput.json"
IDS = tuple(f"{NAMESPACE}/{name}" for name in KERNEL_NAMES)
PACKAGES = ("explore-gym", "gymnasium", "numpy", "numba", "minigrid", "envpool", "stable_baselines3", "torch")
PACKAGES += ("gymnasium-robotics", "mujoco", "highway-env")
MIN_CHUNK = 0.01  # s
NUM_ACTIONS = 64  # batches of actions sampled in advance, played in a cycle
BATCH, SYNC_BATCH = 1024, 64  # environments of the comparisons; of peers that step them in a Python loop
XLAND_MINIGRID, GYMNAX = (Path(__file__).parent / "yardsticks" / f"{name}.py" for name in ("xland_minigrid", "gymnax_deep_sea"))
GAMES = {"size": 13}  # XLandGames, with 2 agents
SHARED = dict(gamma=0.99, gae_lambda=0.95, clip_coef=0.2, vf_coef=0.5, max_grad_norm=0.5, hidden=64, anneal_lr=False)
SMALL = dict(  # stable-baselines3's defaults, 8 environments; minibatches of 64
    SHARED, num_envs=8, num_steps=2048, num_epochs=10, num_minibatches=8 * 2048 // 64, learning_rate=3e-4, ent_coef=0.0
)
LARGE = dict(  # the defaults of agents/ppo.py; minibatches of 1024
    SHARED, num_envs=32, num_steps=128, num_epochs=4, num_minibatches=4, learning_rate=1e-3, ent_coef=0.01
)
EPISODE = 100 + 1  # calls: time limit of FourRooms everywhere, and the reset


@dataclasses.dataclass
class Args:
    ids: tuple[str, ...] = IDS
    batch_sizes: tuple[int, ...] = (1, 64, 1024, 16384)  # 1 is a single environment, made without Gymnasium's checker
    seconds: float = 0.5  # of one measurement, at least
    rounds: int = 5
    copy: bool = True  # fresh arrays from every call
    num_threads: int = 1  # of our batches; in training torch's, on both sides
    compare: bool = False  # instead of the table of ids: peers on the same task
    envpool: bool = False  # instead of the table of ids: EnvPool on every task of Minigrid that both have
    jax: bool = False  # instead of the table of ids: XLand and DeepSea beside peers in JAX, and worlds for several agents
    peer_python: str = ""  # interpreter that has XLand-MiniGrid and gymnax; default: this one
    train: bool = False  # instead of the table of ids: PPO against those of others
    cleanrl: Path | None = None  # ppo.py in a copy of CleanRL's repository
    train_steps: int = 98_304  # environment steps of one training run: 6 iterations
    settings: bool = False  # instead of the table of ids: our PPO by environments, threads and --compile
    full: bool = False  # all parts
    store: bool = False  # put what is measured in the place of its part of docs/benchmarks/throughput.json
    out: Path | None = None  # the same with another JSON file

    def __post_init__(self):
        for name in ("seconds", "rounds", "num_threads", "train_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for size in self.batch_sizes:
            if size < 1:
                raise ValueError(f"batch_sizes must be positive, got {size}")
        for env_id in self.ids:
            if env_id not in IDS:
                raise ValueError(f"ids must be among {', '.join(IDS)}, got {env_id!r}")
        if self.cleanrl is not None and not self.cleanrl.is_file():
            raise ValueError(f"cleanrl must be their file ppo.py, got {str(self.cleanrl)!r}")
        if self.peer_python and shutil.which(self.peer_python) is None:
            raise ValueError(f"peer_python must be an interpreter, got {self.peer_python!r}")


class Contestant:
    """Something whose speed is measured: play(actions) makes a call for each action, and a call steps num_envs environments.

    Making one warms it up. `period` is the least number of calls between two readings of the clock.
    """

    def __init__(self, play, actions, num_envs, period=1):
        self.play, self.actions, self.num_envs, self.chunk = play, itertools.cycle(actions), num_envs, period
        self.measure(0.0)
        while self.chunk * num_envs / self.measure(0.0) < MIN_CHUNK:
            self.chunk *= 2

    def measure(self, seconds):
        """Steps/s over that many seconds, and at least a chunk of calls."""
        calls, start = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - start < seconds:
            self.play(itertools.islice(self.actions, self.chunk))
            calls += self.chunk
        return calls * self.num_envs / (time.perf_counter() - start)


def single(env, period=1):
    """A contestant that resets its single environment where an episode has ended."""
    env.reset(seed=0)
    env.action_space.seed(0)
    done = False

    def play(actions):
        nonlocal done
        for action in actions:
            if done:
                env.reset()
                done = False
            else:
                _, _, terminated, truncated, _ = env.step(action)
                done = terminated or truncated

    actions = [env.action_space.sample() for _ in range(NUM_ACTIONS)]
    if isinstance(env.action_space, gym.spaces.Discrete):
        actions = [int(action) for action in actions]
    return Contestant(play, actions, 1, period)


def batch(envs, actions, num_envs, period=1):
    """A contestant that resets its environments by itself."""

    def play(actions):
        for action in actions:
            envs.step(action)

    return Contestant(play, actions, num_envs, period)


def ours(env_id, num_envs, args, whole_episodes=True, **kwargs):
    if num_envs == 1:
        env = gym.make(env_id, disable_env_checker=True, **kwargs)
        return single(env, (env.unwrapped.time_limit or 0) + 1)
    envs = gym.make_vec(env_id, num_envs=num_envs, copy=args.copy, num_threads=args.num_threads, **kwargs)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    actions = [envs.action_space.sample() for _ in range(NUM_ACTIONS)]
    return batch(envs, actions, num_envs, (envs.env.time_limit or 0) + 1 if whole_episodes else 1)


def minigrid_single():
    import minigrid  # noqa: F401  registers the ids

    return single(gym.make("MiniGrid-FourRooms-v0", disable_env_checker=True), EPISODE)


def minigrid_sync():
    import minigrid  # noqa: F401

    kwargs = dict(num_envs=SYNC_BATCH, vectorization_mode="sync", disable_env_checker=True)
    envs = gym.make_vec("MiniGrid-FourRooms-v0", **kwargs)
    envs.reset(seed=0)
    return batch(envs, four_rooms_actions(SYNC_BATCH), SYNC_BATCH, EPISODE)


def minigrid_dummy():
    """Of the observation only the image, because stable-baselines3 takes no text."""
    from minigrid.wrappers import ImgObsWrapper
    from stable_baselines3.common.vec_env import DummyVecEnv

    make = lambda: ImgObsWrapper(gym.make("MiniGrid-FourRooms-v0", disable_env_checker=True))
    envs = DummyVecEnv([make] * SYNC_BATCH)
    envs.reset()
    return batch(envs, four_rooms_actions(SYNC_BATCH), SYNC_BATCH, EPISODE)


def point_maze_single():
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    return single(gym.make("PointMaze_Large-v3", disable_env_checker=True), 800 + 1)


def highway_single():
    """A crossing with some 9 other vehicles, 10 steps of simulation and of driving per second, as ours."""
    import highway_env

    gym.register_envs(highway_env)
    config = {"initial_vehicle_count": 8, "simulation_frequency": 10, "policy_frequency": 10}
    return single(gym.make("intersection-v1", disable_env_checker=True, config=config), 130 + 1)


def envpool_minigrid(name, period):
    import envpool

    envs = envpool.make_gymnasium(f"MiniGrid-{name}", num_envs=BATCH, num_threads=1, seed=0)
    envs.reset()
    return batch(envs, four_rooms_actions(BATCH), BATCH, period)


def shared_tasks():
    """The ids without namespace that EnvPool has of Minigrid too."""
    import envpool

    theirs = {name.removeprefix("MiniGrid-") for name in envpool.list_all_envs() if name.startswith("MiniGrid-")}
    return [name for name in (*ENVIRONMENTS, *VARIANTS) if name in theirs]


def four_rooms_actions(num_envs):
    return list(np.random.default_rng(0).integers(7, size=(NUM_ACTIONS, num_envs)))


def four_rooms_c():
    return c_loop("four_rooms", "Explore/FourRooms-v0", ("max_steps",), EPISODE)


def four_rooms_c_keeping():
    return c_loop("four_rooms", "Explore/FourRooms-v0", ("max_steps",), EPISODE, "KEEP_VIEW")


def meta_bandit_c():
    return c_loop("meta_bandit", "Explore/MetaBandit-v0", ("recurrence", "pulls_per_episode"))


def c_loop(name, env_id, parameters, period=1, *defines):
    """A yardstick on the records that the environment's own reset has made; it writes into the same arrays in each call."""
    from explore_gym.scripts.yardsticks import load

    library, envs = load(name, *defines), gym.make_vec(env_id, num_envs=BATCH)
    envs.reset(seed=0)
    states, obs, infos = envs.get_state(), envs.env.observations.empty(BATCH), envs.env.metrics.empty(BATCH)
    found, expected = (library.state_size(), library.info_size()), (states.itemsize, infos.itemsize)
    if found != expected:
        raise RuntimeError(f"{name}.c must have state and info records of {expected} bytes as {env_id} has, got {found}")
    outputs = obs, np.empty(BATCH), np.empty(BATCH, bool), np.empty(BATCH, bool), infos
    constants = [ctypes.c_int64(int(envs.env.params[key][0])) for key in parameters]
    before, after = (ctypes.c_int64(BATCH), pointer(states)), (*constants, *map(pointer, outputs))

    def play(actions):
        for action in actions:
            library.step(*before, pointer(action), *after)

    actions = list(np.random.default_rng(0).integers(envs.single_action_space.n, size=(NUM_ACTIONS, BATCH)))
    return Contestant(play, actions, BATCH, period)


def pointer(array):
    """Keeps the array alive."""
    return array.ctypes.data_as(ctypes.c_void_p)


class JaxPeer:
    """A contestant in a process of its own, until it is closed.

    Raises:
        ImportError: the interpreter lacks the package or JAX.
    """

    def __init__(self, name, script, package, python, task):
        self.num_envs, self.script = BATCH, script
        found = subprocess.run([python, "-c", f"import jax, {package}"], capture_output=True, text=True)
        if found.returncode:
            raise ImportError(found.stderr.strip().rpartition("\n")[2].rpartition("Error: ")[2])
        self.process = subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        versions = json.loads(self.ask(json.dumps(task)))
        self.name = "{} ({})".format(name, ", ".join(f"{name} {version}" for name, version in versions.items()))

    def ask(self, line):
        with contextlib.suppress(BrokenPipeError):  # there will be no answer then
            print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.close()
            raise RuntimeError(f"{self.script.name} ended with exit code {self.process.returncode}")
        return answer

    def measure(self, seconds):
        return float(self.ask(seconds))

    def close(self):
        self.process.communicate()  # it leaves at the end of its input


def xland_tasks(num_tasks):
    """Tasks of XLand in words, as many as asked for: what yardsticks/xland_minigrid.py reads."""
    envs = gym.make_vec(f"{NAMESPACE}/XLand-v0", num_envs=num_tasks)
    envs.reset(seed=0)
    tile = lambda code: (TILE_NAMES[code & 15], COLOR_NAMES[code >> 4])

    def condition(kind, a, b):
        if is_agent(a):
            return "hold" if kind == HOLD else "near", tile(b)
        return "tile_near", tile(a), tile(b)

    tasks = []
    for state in envs.get_state():
        kind, _, a, b = state["goals"][0, 0, 0].tolist()
        rules = state["rules"][: state["num_rules"]].tolist()
        tasks.append(
            {
                "goal": condition(kind, a, b),
                "rules": [(*condition(kind, a, b), tile(product)) for kind, a, b, product in rules],
                "objects": [tile(code) for code in state["objects"][: state["num_objects"]].tolist()],
            }
        )
    return tasks


# ours: id and number of environments; the peer; the ratio ours / theirs aimed at
COMPARISONS = (
    ("Explore/FourRooms-v0", BATCH, "EnvPool", lambda: envpool_minigrid("FourRooms-v0", EPISODE), 30.0),
    ("Explore/FourRooms-v0", BATCH, "Minigrid, single", minigrid_single, 1000.0),
    ("Explore/FourRooms-v0", BATCH, "Minigrid, SyncVectorEnv", minigrid_sync, None),
    ("Explore/FourRooms-v0", BATCH, "Minigrid, DummyVecEnv", minigrid_dummy, None),
    ("Explore/FourRooms-v0", BATCH, "C loop", four_rooms_c, 0.8),
    ("Explore/FourRooms-v0", BATCH, "C loop that keeps the view", four_rooms_c_keeping, None),
    ("Explore/FourRooms-v0", 1, "Minigrid, single", minigrid_single, 30.0),
    ("Explore/MetaBandit-v0", BATCH, "C loop", meta_bandit_c, 0.5),
    ("Explore/HardMaze-v0", BATCH, "PointMaze of gymnasium-robotics, single", point_maze_single, 50.0),
    ("Explore/Driving-v0", BATCH, "crossing of highway-env, single", highway_single, 50.0),
)
# id, its arguments and hyperparameters; the ratios to stable-baselines3 and to CleanRL aimed at
TRAININGS = (
    ("Explore/FourRooms-v0", {"observation": "image"}, SMALL, (8.0, 3.0)),
    ("Explore/FourRooms-v0", {"observation": "image"}, LARGE, (8.0, 3.0)),
    ("CartPole-v1", {}, SMALL, (5.0, None)),
)
SETTINGS = tuple(itertools.product((8, 32, 128, 512), (False, True), (1, 2)))  # environments, --compile, torch threads
CLEANRL = Path(__file__).parent / "yardsticks" / "cleanrl_ppo.py"


class Report:
    """The rows measured so far, by part; the file, if there is one, is rewritten after each and keeps its other parts."""

    def __init__(self, path, args):
        self.path, self.settings = path, {key: getattr(args, key) for key in ("seconds", "rounds", "copy", "num_threads")}
        self.parts = {}  # those of this run
        self.others = json.loads(path.read_text()) if path is not None and path.exists() else {}

    def add(self, part, **row):
        if part not in self.parts:
            command = shlex.join(["python", *sys.argv])
            self.parts[part] = {"machine": machine(), "command": command, "settings": self.settings, "rows": []}
        self.parts[part]["rows"].append({**row, "load": os.getloadavg()[0]})
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(self.path.name + ".tmp")
            temporary.write_text(json.dumps({**self.others, **self.parts}, indent=1) + "\n")
            os.replace(temporary, self.path)

    def rows(self, part):
        return self.parts[part]["rows"] if part in self.parts else []


def machine():
    """What the figures depend on: processor, cores, load, versions."""
    models = [line.split(":")[1].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name.replace("-", "_"))}
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), **versions},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def read(path):
    """A file's text, empty where there is none."""
    return Path(path).read_text() if Path(path).exists() else ""


def measure_ids(args, report):
    """Steps/s of each id at each batch size."""
    for env_id, num_envs in itertools.product(args.ids, args.batch_sizes):
        contestant = ours(env_id, num_envs, args)
        speeds = [contestant.measure(args.seconds) for _ in range(args.rounds)]
        report.add("ids", id=env_id, num_envs=num_envs, **spread("steps_per_second", speeds))


def compare(args, report):
    """Ours beside each peer on the same task."""
    for env_id, num_envs, name, make_peer, goal in COMPARISONS:
        row = dict(id=env_id, num_envs=num_envs, peer=name, goal=goal)
        try:
            peer = make_peer()
        except ImportError as error:
            report.add("compare", **row, missing=str(error))
            continue
        speeds = alternate(ours(env_id, num_envs, args), peer, args.rounds, args.seconds)
        report.add("compare", **row, peer_num_envs=peer.num_envs, **ratios(speeds))


def compare_envpool(args, report):
    """Every task of Minigrid that EnvPool has too. Episodes are seldom whole, some last thousands of steps."""
    for name in shared_tasks():
        theirs, mine = envpool_minigrid(name, 1), ours(f"{NAMESPACE}/{name}", BATCH, args, whole_episodes=False)
        speeds = alternate(mine, theirs, args.rounds, args.seconds)
        row = dict(id=f"{NAMESPACE}/{name}", num_envs=BATCH, peer="EnvPool", peer_num_envs=BATCH, goal=15.0)
        report.add("envpool", **row, **ratios(speeds))


def compare_jax(args, report):
    """XLand beside XLand-MiniGrid, one room of 9x9 cells, a view of 5x5, small rulesets; DeepSea beside gymnax's."""
    sea = {"size": 8}
    for name, kwargs, goal, peer, script, package, task in (
        ("XLand-v0", {}, 20.0, "XLand-MiniGrid", XLAND_MINIGRID, "xminigrid", xland_tasks(BATCH)),
        ("DeepSea-v0", sea, None, "gymnax", GYMNAX, "gymnax", {**sea, "num_envs": BATCH}),
    ):
        row = dict(id=f"{NAMESPACE}/{name}", num_envs=BATCH, goal=goal)
        try:
            theirs = JaxPeer(peer, script, package, args.peer_python or sys.executable, task)
        except ImportError as error:
            report.add("jax", **row, peer=peer, missing=str(error))
            continue
        with contextlib.closing(theirs):
            speeds = alternate(ours(row["id"], BATCH, args, **kwargs), theirs, args.rounds, args.seconds)
        report.add("jax", **row, peer=theirs.name, peer_num_envs=BATCH, **ratios(speeds))


def measure_agents(args, report):
    """Steps/s of agents in worlds for several: those of the worlds times the number of agents."""
    env_id = f"{NAMESPACE}/XLand-Games-v0"
    agents, worlds = gym.make(env_id, **GAMES).unwrapped.num_agents, ours(env_id, BATCH, args, **GAMES)
    speeds = [agents * worlds.measure(args.seconds) for _ in range(args.rounds)]
    row = dict(id=env_id, kwargs=GAMES, num_envs=BATCH, agents=agents, goal=1e6)
    report.add("agents", **row, **spread("steps_per_second", speeds))


def alternate(first, second, rounds, seconds):
    """Speeds of both, measured in turns: a list of pairs."""
    return [(first.measure(seconds), second.measure(seconds)) for _ in range(rounds)]


def train(args, report):
    """PPO training: ours, eager and compiled, beside those of others."""
    present = importlib.util.find_spec("stable_baselines3") is not None, args.cleanrl is not None
    peers = dict(zip(("stable-baselines3", "CleanRL"), present))
    reasons = "No module named 'stable_baselines3'", "--cleanrl names no ppo.py"
    for env_id, env_kwargs, hyperparameters, goals in TRAININGS:
        row = dict(
            id=env_id, num_envs=hyperparameters["num_envs"], train_steps=args.train_steps, hyperparameters=hyperparameters
        )
        settings = dict(hyperparameters, env=env_id, env_kwargs=json.dumps(env_kwargs), total_timesteps=args.train_steps)
        settings["threads"] = args.num_threads
        contestants = [name for name, there in peers.items() if there]
        runs = []
        with tempfile.TemporaryDirectory() as cache:
            for seed in range(1, args.rounds + 1 if contestants else 1):
                runs.append(train_all({**settings, "seed": seed}, contestants, args.cleanrl, cache))
        for (peer, there), goal, reason in zip(peers.items(), goals, reasons):
            if not there:
                report.add("train", **row, peer=peer, goal=goal, missing=reason)
                continue
            for mode, label, aim in (("eager", peer, None), ("compiled", f"{peer}; ours --compile", goal)):
                ours, theirs = ([run[name] for run in runs] for name in (mode, peer))
                report.add("train", **row, peer=label, goal=aim, **beside(ours, theirs))


def train_all(settings, contestants, cleanrl, cache):
    """One round of a training comparison: what `run_training` measures of each contestant."""
    theirs = {
        "stable-baselines3": lambda: run_training(train_theirs, settings, cache),
        "CleanRL": lambda: run_cleanrl(settings, cleanrl),
    }
    return {
        "eager": run_training(train_ours, settings, cache),
        **{name: theirs[name]() for name in contestants},
        "compiled": run_training(train_ours, {**settings, "compile": True}, cache),
    }


def beside(ours, theirs):
    """Entries of a row for what was measured of both in each round."""
    found = ratios([(a["steps_per_second"], b["steps_per_second"]) for a, b in zip(ours, theirs)])
    found |= spread("wall_ratio", [b["wall"] / a["wall"] for a, b in zip(ours, theirs)])
    for name, runs in (("our", ours), ("their", theirs)):
        found[f"{name}_start_up"] = [run["start_up"] for run in runs]
        returns = [run["episode_return"] for run in runs]
        found[f"{name}_return"] = None if None in returns else statistics.mean(returns)
    return found


def measure_settings(args, report):
    """Steps/s of our PPO by environments, --compile and torch threads, all settings once in each round."""
    env_id, env_kwargs, _, _ = TRAININGS[0]
    speeds = {setting: [] for setting in SETTINGS}
    with tempfile.TemporaryDirectory() as cache:
        for seed, setting in itertools.product(range(1, args.rounds + 1), SETTINGS):
            num_envs, compiled, threads = setting
            settings = dict(LARGE, env=env_id, env_kwargs=json.dumps(env_kwargs), seed=seed, total_timesteps=args.train_steps)
            settings |= {"num_envs": num_envs, "compile": compiled, "threads": threads}
            settings["total_timesteps"] = max(args.train_steps, 4 * num_envs * LARGE["num_steps"])
            speeds[setting].append(run_training(train_ours, settings, cache)["steps_per_second"])
    for (num_envs, compiled, threads), found in speeds.items():
        row = dict(id=env_id, num_envs=num_envs, compile=compiled, threads=threads, train_steps=args.train_steps)
        row["minibatch"] = num_envs * LARGE["num_steps"] // LARGE["num_minibatches"]
        report.add("settings", **row, **spread("steps_per_second", found))


def run_training(function, settings, cache):
    """Calls the function in a fresh process; compiled code is kept in the folder `cache`.

    Returns steps/s after the first iteration, the last return, wall-clock seconds, and those of them that all steps at this
    speed leave unexplained: imports and compilation.
    """
    code = "import json, sys; from explore_gym.scripts import throughput; "
    code += "getattr(throughput, sys.argv[1])(**json.loads(sys.argv[2]))"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", code, function.__name__, json.dumps({**settings, "run_dir": f"{folder}/run"})]
        start = time.perf_counter()
        threads = str(settings["threads"])
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": threads, "TORCHINDUCTOR_CACHE_DIR": cache})
        wall = time.perf_counter() - start
        rows = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    return speed_of(rows, wall)


def run_cleanrl(settings, script):
    """The same of CleanRL's script, which prints a line at the end of each iteration.

    It reports no returns under this version of Gymnasium, where it looks for them in vain.
    """
    flags = {key: settings[key] for key in ("num_envs", "num_steps", "num_minibatches", "learning_rate", "gamma", "gae_lambda")}
    flags |= {key: settings[key] for key in ("clip_coef", "ent_coef", "vf_coef", "max_grad_norm", "total_timesteps", "seed")}
    flags["update_epochs"] = settings["num_epochs"]
    command = [sys.executable, str(CLEANRL), str(script.resolve()), settings["env"], settings["env_kwargs"]]
    command += [f"--{key.replace('_', '-')}={value}" for key, value in flags.items()]
    command += ["--no-cuda", "--no-clip-vloss", *([] if settings["anneal_lr"] else ["--no-anneal-lr"])]
    rows, batch, start = [], settings["num_envs"] * settings["num_steps"], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        threads = str(settings["threads"])
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment) as process:
            for line in process.stdout:
                if line.startswith("SPS:"):
                    rows.append({"step": (len(rows) + 1) * batch, "time": time.perf_counter()})
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return speed_of(rows, time.perf_counter() - start)


def speed_of(rows, wall):
    """What the metrics of a training of so many seconds say of its speed."""
    steps, seconds = (rows[-1][key] - rows[0][key] for key in ("step", "time"))
    returns = [row["episode_return"] for row in rows if "episode_return" in row]
    speed = steps / seconds
    return {
        "steps_per_second": speed,
        "episode_return": returns[-1] if returns else None,
        "wall": wall,
        "start_up": wall - rows[-1]["step"] / speed,
    }


def ppo_args(settings):
    from explore_gym.agents import ppo

    return ppo.Args(**settings, device="cpu", encoder="mlp", autoreset_mode="NextStep", quiet=True)


def train_ours(**settings):
    """Trains with agents/ppo.py."""
    from explore_gym.agents import ppo

    ppo.train(ppo_args(settings))


def train_theirs(**settings):
    """Trains with stable-baselines3 under the hyperparameters of agents/ppo.py; writes the same metrics."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    import explore_gym  # noqa: F401  registers the ids

    args = ppo_args(settings)
    torch.set_num_threads(args.threads)
    rows = []

    class Clock(BaseCallback):
        """A row at the start of each rollout, hence at the end of the iteration before."""

        def _on_step(self):
            return True

        def _on_rollout_start(self):
            scores = [episode["r"] for episode in self.model.ep_info_buffer]
            rows.append({"step": self.num_timesteps, "time": time.perf_counter()})
            if scores:
                rows[-1]["episode_return"] = float(np.mean(scores))

    envs = make_vec_env(args.env, args.num_envs, seed=args.seed, env_kwargs=json.loads(args.env_kwargs))
    width = [args.hidden, args.hidden]
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=args.num_steps,
        batch_size=args.num_envs * args.num_steps // args.num_minibatches,
        n_epochs=args.num_epochs,
        learning_rate=(lambda left: args.learning_rate * left) if args.anneal_lr else args.learning_rate,
        gamma=args.gamma,
        gae_lambda=args.gae_lambda,
        clip_range=args.clip_coef,
        ent_coef=args.ent_coef,
        vf_coef=args.vf_coef,
        max_grad_norm=args.max_grad_norm,
        normalize_advantage=args.norm_advantages,
        target_kl=args.target_kl or None,
        policy_kwargs={"net_arch": {"pi": width, "vf": width}, "activation_fn": torch.nn.Tanh},
        seed=args.seed,
        device="cpu",
    )
    clock = Clock()
    model.learn(args.total_timesteps, callback=clock)
    clock._on_rollout_start()
    folder = Path(args.run_dir)
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))


def spread(name, values):
    """Median and range as entries of a row."""
    return {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def ratios(speeds):
    """Entries of a row for pairs of speeds, ours and theirs."""
    sides = {name: statistics.median(pair[i] for pair in speeds) for i, name in enumerate(("ours", "theirs"))}
    return {**sides, **spread("ratio", [a / b for a, b in speeds])}


def table_of_ids(rows):
    sizes = sorted({row["num_envs"] for row in rows})
    table = Table("id", *(f"{size:,}" for size in sizes), title="steps/s by number of environments: median (best)")
    text = lambda row: f"{row['steps_per_second']:,.0f} ({row['steps_per_second_max']:,.0f})"
    cells = {(row["id"], row["num_envs"]): text(row) for row in rows}
    for env_id in dict.fromkeys(row["id"] for row in rows):
        table.add_row(env_id, *(cells[env_id, size] for size in sizes))
    return table


def table_of_agents(rows):
    table = Table("id", "worlds", "agents", "median", "range", "aim", title="steps/s of all agents")
    for row in rows:
        kwargs = ", ".join(f"{key}={value!r}" for key, value in row["kwargs"].items())
        speed = f"{row['steps_per_second']:,.0f}"
        span = f"{row['steps_per_second_min']:,.0f} to {row['steps_per_second_max']:,.0f}"
        sizes = f"{row['num_envs']:,}", str(row["agents"])
        table.add_row(f"{row['id']} ({kwargs})", *sizes, speed, span, f"{row['goal']:,.0f}")
    return table


def table_of_settings(rows):
    table = Table("environments", "minibatch", "--compile", "threads", "median", "range", title="PPO training, steps/s")
    for row in rows:
        sizes = f"{row['num_envs']:,}", f"{row['minibatch']:,}", "yes" if row["compile"] else "no", str(row["threads"])
        span = f"{row['steps_per_second_min']:,.0f} to {row['steps_per_second_max']:,.0f}"
        table.add_row(*sizes, f"{row['steps_per_second']:,.0f}", span)
    return table


def table_of_ratios(rows, title):
    table = Table("id", "environments", "peer", "ours", "theirs", "ratio", "range", "aim", title=title)
    for row in rows:
        cells = [row["id"], f"{row['num_envs']:,}", row["peer"]]
        if "missing" in row:
            cells += ["", "", "missing", row["missing"]]
        else:
            with_start = f", with start-up {row['wall_ratio']:.2f}" if "wall_ratio" in row else ""
            span = f"{row['ratio_min']:.2f} to {row['ratio_max']:.2f}{with_start}"
            cells += [f"{row['ours']:,.0f}", f"{row['theirs']:,.0f}", f"{row['ratio']:.2f}", span]
        table.add_row(*cells, "" if row["goal"] is None else f"{row['goal']:g}")
    return table


def run(args):
    """Measures what the arguments ask for, prints the tables and returns the `Report`."""
    console = Console()
    if not console.is_terminal:
        console.width = 140
    report = Report(args.out or (STORED if args.store else None), args)
    if args.full or not (args.compare or args.envpool or args.jax or args.train or args.settings):
        measure_ids(args, report)
        console.print(table_of_ids(report.rows("ids")))
    if args.full or args.compare:
        compare(args, report)
        console.print(table_of_ratios(report.rows("compare"), "steps/s beside peers"))
    if args.full or args.envpool:
        compare_envpool(args, report)
        console.print(table_of_ratios(report.rows("envpool"), "steps/s beside EnvPool"))
    if args.full or args.jax:
        compare_jax(args, report)
        console.print(table_of_ratios(report.rows("jax"), "steps/s beside peers in JAX"))
        measure_agents(args, report)
        console.print(table_of_agents(report.rows("agents")))
    if args.full or args.train:
        train(args, report)
        console.print(table_of_ratios(report.rows("train"), "PPO training, steps/s"))
    if args.full or args.settings:
        measure_settings(args, report)
        console.print(table_of_settings(report.rows("settings")))
    return report


def main():
    try:
        run(tyro.cli(Args, description=__doc__))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
