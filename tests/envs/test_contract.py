"""The contract, checked for every registered id and for the configurations in SETTINGS.

The text tasks, whose actions at random are no responses, have their own checks of it in tests/envs/text/test_levels.py.
"""

import importlib.util
import os
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import explore_gym
from explore_gym.envs import ENVIRONMENTS, KERNEL_NAMES, NAMESPACE, VARIANTS, testing

IDS = sorted(f"{NAMESPACE}/{name}" for name in KERNEL_NAMES)
SIZES = sorted(f"{NAMESPACE}/{name}" for name, (base, _) in VARIANTS.items() if f"{NAMESPACE}/{base}" in IDS)
# Beside the defaults: keyword arguments that change the sizes, the randomness or the ends of episodes
SETTINGS = {
    "Explore/MetaBandit-v0": [
        {"family": "bernoulli", "arms": 3, "recurrence": 5, "length": "geometric", "safe_arm": 0.5},
        {"drift": 0.1, "pulls_per_episode": 4, "recurrence": 3},
    ],
    "Explore/ContextualBandit-v0": [{"arms": 3, "dimension": 2, "model": "shared", "horizon": 20, "noise": 0.5}],
    "Explore/LinearBandit-v0": [{"arms": 4, "dimension": 2, "horizon": 20, "noise": 0.5}],
    "Explore/BestArm-v0": [{"arms": 4, "budget": 12, "loss": "regret"}, {"arms": 4, "theta": [0.0, 0.5, 1.0, -1.0]}],
    "Explore/Thresholds-v0": [{"positions": 7, "budget": 9, "margin": [0.1, 0.3], "loss": "regret"}],
    "Explore/TwentyQuestions-v0": [{"objects": 9, "questions": 6, "budget": 8, "noise": 0.2, "rank": 2, "target": 4}],
    "Explore/RatingBandit-v0": [{"items": 8, "rank": 2, "budget": 7, "loss": "error"}],
    "Explore/MetaGrid-v0": [
        {"layout": "comb", "traps": 3, "recurrence": 3, "length": "geometric"},
        {"layout": ["o.S", "#.o"], "recurrence": 2, "episode_steps": 4},
    ],
    "Explore/DeepSea-v0": [{"size": 5, "deterministic": False}],
    "Explore/RiverSwim-v0": [{"size": 12, "max_steps": 50}],
    "Explore/Corridor-v0": [{"size": 5, "slip": 0.3, "setback": 2, "max_steps": 30}],
    "Explore/SlipperyRooms-v0": [{"size": 5, "slip": 0.3, "max_steps": 30}],
    "Explore/Garnet-v0": [{"num_states": 8, "num_actions": 2, "branching": 2, "model_seed": 3, "max_steps": 30}],
    "Explore/Empty-v0": [{"size": 6, "agent_pos": None}],
    "Explore/LavaCrossing-v0": [
        {"num_crossings": 5, "num_contexts": 3, "position": True, "step_counter": True, "noise_channels": 2}
    ],
    "Explore/DistShift-v0": [{"agent_pos": None}],
    "Explore/MultiRoom-v0": [{"min_rooms": 1, "max_room_size": 5, "num_contexts": 3}],
    "Explore/Memory-v0": [{"random_length": True}],
    "Explore/DynamicObstacles-v0": [{"agent_pos": None}],
    "Explore/Fetch-v0": [{"num_objects": 9, "observation": "image"}],
    "Explore/GoToDoor-v0": [{"size": 8, "see_through_walls": False}],
    "Explore/Unlock-v0": [{"room_size": 5, "max_steps": 60, "num_contexts": 3}],
    "Explore/UnlockPickup-v0": [{"room_size": 5, "max_steps": 60, "observation": "image"}],
    "Explore/BlockedUnlockPickup-v0": [{"room_size": 5, "max_steps": 60, "see_through_walls": True}],
    "Explore/KeyCorridor-v0": [{"num_rows": 2, "room_size": 3, "obj_type": "box", "max_steps": 60, "num_contexts": 3}],
    "Explore/ObstructedMaze-v0": [
        {"num_quarters": 0, "max_steps": 60},
        {"num_quarters": 2, "agent_room": [2, 1], "keys_last": False, "max_steps": 60},
    ],
    "Explore/PutNear-v0": [{"size": 8, "num_objects": 4}],
    "Explore/LavaMultiRoom-v0": [{"num_rooms": 2, "max_room_size": 5, "size": 12, "num_contexts": 3, "position": True}],
    "Explore/Corridors-v0": [{"corridors": 3, "length": 4, "num_contexts": None, "step_counter": True, "noise_channels": 3}],
    "Explore/KeyRoom-v0": [
        {"num_monsters": 2, "distractor_messages": 5, "num_contexts": 3, "max_steps": 60, "noise_channels": 2},
        {"size": 8, "observation": "image", "max_steps": 60},
    ],
    "Explore/HindsightMaze-v0": [{"noise": "persistent", "sticky_probability": 0.25, "max_steps": 60}],
    "Explore/XLand-v0": [
        {
            "rooms": 4,
            "size": 13,
            "rules": "high",
            "tasks": "train",
            "trials": 3,
            "trial_steps": 40,
            "goal_visible": True,
            "rules_visible": True,
        },
    ],
    "Explore/XLand-Games-v0": [{"relation": "shared", "trials": 2, "trial_steps": 20, "reward": "once"}],
    "Explore/FourRooms-v0": [
        {"size": 9, "max_steps": 30, "num_contexts": 4, "agent_view_size": 5},
        {"size": 7, "max_steps": 40, "see_through_walls": True, "observation": "image", "goal_pos": [2, 2]},
    ],
    "Explore/GridCoverage-v0": [
        {"shape": [6, 7], "reach": 2, "steps": 20, "slip": 0.2, "num_contexts": 3, "observation": "history"},
        {"density": "bimodal", "slip": 0.1, "observation": "position", "reward": "modular"},
    ],
    "Explore/Biodiversity-v0": [{"species": 2, "shape": [5, 5], "steps": 20, "slip": 0.2, "num_contexts": 3}],
    "Explore/ExperimentDesign-v0": [{"shape": [5, 6], "known": 2, "noise": 0.1, "steps": 20, "slip": 0.2, "num_contexts": 3}],
    "Explore/ItemCollection-v0": [{"counts": [5, 7], "needed": [2, 3], "shape": [4, 6], "slip": 0.2, "num_contexts": 3}],
    "Explore/BuildingExploration-v0": [
        {"plan": ["S..#.", "#....", "..##."], "steps": 9, "slip": 0.2, "observation": "history"}
    ],
    "Explore/PointCoverage-v0": [{"raster": 40, "steps": 60, "observation": "map", "reward": "total"}],
    "Explore/TopoNav-v0": [
        {
            "scenario": "feature",
            "size": 16,
            "tiles": 3,
            "clearings": [1, 1],
            "dead_ends": 1,
            "dead_end_depth": 8,
            "density": [0.15, 0.25],
            "landmarks": [5, 8],
            "targets": 2,
            "goal_distance": 12,
            "late_step": 20,
            "late_passes": 1,
            "view_range": 5,
            "view_angle": 180,
            "drift": 0.2,
            "num_contexts": 3,
            "max_steps": 60,
        },
        {
            "scenario": "terrain",
            "size": 24,
            "tiles": 1,
            "clearings": [0, 0],
            "dead_ends": 0,
            "density": [0.05, 0.1],
            "landmarks": [0, 3],
            "landmark_types": 2,
            "goal_distance": 10,
            "false_positives": 0.5,
            "split": "test",
            "max_steps": 60,
        },
    ],
    "Explore/MazeRooms-v0": [{"distractors": 3, "rooms": 3, "room_size": 3, "extra_doors": 1, "min_depth": 0, "max_steps": 60}],
    "Explore/NoveltyRec-v0": [
        {
            "actions": "topics",
            "topics": 4,
            "items_per_topic": 3,
            "users": [{"affinity": [0.9, 0.1, 0.6, 0.3], "liked": [0, 2], "novelty_seeking": 0.3}],
            "session_steps": 5,
            "sessions": 3,
            "days": 10,
            "reveal": ["intent", "novelty_seeking", "affinity"],
        },
    ],
    "Explore/TinyRec-v0": [{"slate": 2, "session_steps": 3}],
    "Explore/HardMaze-v0": [{"maze": "twin", "lasers": [-90, 0, 90, 180], "steps": 60, "reward": "reach"}],
    "Explore/RedundantArm-v0": [{"radius": 0.3, "steps": 40}],
    "Explore/Driving-v0": [
        {
            "reward": "shaped",
            "crossings": [2, 2],
            "route_length": [260, 300],
            "vehicles": [1, 3],
            "pedestrians": 1,
            "critic": True,
            "raster": 8,
            "max_steps": 60,
        },
        {"reward": "additive", "evaluation": True, "crossings": [1, 1], "penalty_steps": 20, "max_steps": 90},
    ],
}
# Nothing is drawn at random, so that every seed gives the same run: (id, keyword arguments)
ALWAYS = [
    (f"Explore/{name}-v0", kwargs)
    for name in ("MazeRooms", "HardMaze", "RedundantArm")
    for kwargs in ({}, *SETTINGS[f"Explore/{name}-v0"])
]
COVERAGE = ("GridCoverage", "Biodiversity", "ExperimentDesign", "ItemCollection", "BuildingExploration")
FIXED = ("DeepSea", "Empty", "DistShift", "Corridors", "HindsightMaze", *COVERAGE)  # by default
DETERMINISTIC = [*((f"Explore/{name}-v0", {}) for name in FIXED), *ALWAYS]
CASES = [(id, kwargs) for id in IDS for kwargs in ({}, *SETTINGS.get(id, ()))]
OF_THE_ENGINE = ("partial_reset", "buffers", "bad_input", "options")  # arguments of an environment play no part in them
THREADED = ("MetaBandit", "RiverSwim", "KeyRoom", "XLand-Games", "PointCoverage", "HardMaze")  # loops of threads compile long
WITH_OPTIONS = [f"Explore/{name}-v0" for name in THREADED]
CHECKED = [
    (id, kwargs, check)
    for id, kwargs in CASES
    for check in testing.CHECKS
    if not (kwargs and check in OF_THE_ENGINE) and (check != "options" or id in WITH_OPTIONS)
]
NUM_STEPS = 600  # per run of the checks, or an episode's length and a few more
TRAJECTORY_STEPS = 120  # kernels as plain Python are slow

cases = pytest.mark.parametrize(("id", "kwargs"), CASES, ids=[f"{id}{kwargs or ''}" for id, kwargs in CASES])


@pytest.mark.parametrize(
    ("id", "kwargs", "check"), CHECKED, ids=[f"{id}{kwargs or ''}-{check}" for id, kwargs, check in CHECKED]
)
def test_vector_check(id, kwargs, check):
    make_vec, make_single = testing.factories(id, **kwargs)
    env = make_single().unwrapped
    num_steps = max(NUM_STEPS, (env.time_limit or getattr(env, "steps", 0)) + 100)
    reason = testing.run_check(check, make_vec, make_single, num_steps, deterministic=(id, kwargs) in DETERMINISTIC)
    assert reason is None, f"the check does not apply: {reason}"


def test_every_id_is_registered():
    named = [f"{NAMESPACE}/{name}" for name in (*ENVIRONMENTS, *VARIANTS)]
    assert sorted(id for id, spec in gym.registry.items() if spec.namespace == NAMESPACE) == sorted(named)


@pytest.mark.parametrize("id", SIZES)
def test_a_variant_is_its_environment_with_other_arguments(id):
    """The same kernels on the same record and parameters, so the same in all that the other tests see."""
    base, kwargs = VARIANTS[id.removeprefix(f"{NAMESPACE}/")]
    env, same = gym.make(id).unwrapped, gym.make(f"{NAMESPACE}/{base}", **kwargs).unwrapped
    assert type(env) is type(same)
    assert (env.state_dtype, env.observation_space) == (same.state_dtype, same.observation_space)
    assert env.params.tobytes() == same.params.tobytes()


@cases
def test_gymnasium_check_env(id, kwargs):
    env = gym.make(id, **kwargs).unwrapped  # has its spec: without one Gymnasium leaves out the equality checks
    assert env.spec.id == id
    check_env(env)


@cases
def test_stable_baselines3_check_env(id, kwargs):
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends larger images and normalised actions
        env = gym.make(id, **kwargs).unwrapped
        if isinstance(env.observation_space, gym.spaces.Dict):  # it knows no Text: its users leave such keys out
            keys = [key for key, space in env.observation_space.items() if not isinstance(space, gym.spaces.Text)]
            env = gym.wrappers.FilterObservation(env, keys)
        sb3.check_env(env)


@cases
def test_spec_survives_json(id, kwargs):
    spec = gym.make(id, **kwargs).spec
    again = gym.envs.registration.EnvSpec.from_json(spec.to_json())
    assert (again.id, again.kwargs) == (spec.id, spec.kwargs)
    made = gym.make(again)
    assert made.spec.kwargs == spec.kwargs
    assert made.observation_space == gym.make(id, **kwargs).observation_space


@cases
def test_max_episode_steps_truncates_single_and_batch(id, kwargs):
    env = gym.make(id, max_episode_steps=2, **kwargs)
    envs = gym.make_vec(id, num_envs=2, max_episode_steps=2, **kwargs)
    env.action_space.seed(0)
    env.reset(seed=0)
    envs.reset(seed=0)
    for step in (1, 2):
        action = env.action_space.sample()
        *_, terminated, truncated, _ = env.step(action)
        batch = envs.step(np.stack([action, action]))
        assert (terminated, truncated) == (bool(batch[2][0]), bool(batch[3][0]))
        if terminated:
            return
        assert truncated == (step == 2)


def trajectories(cases):
    """What two lanes of a batch and a single environment return in TRAJECTORY_STEPS steps: {name: [(step, value), ...]}."""
    recorded = {}
    for id, kwargs in cases:
        for mode in ("NextStep", "SameStep"):
            envs = gym.make_vec(id, num_envs=2, autoreset_mode=mode, **kwargs)
            tapes = testing.sample_actions(envs.single_action_space, 2, TRAJECTORY_STEPS)
            player = testing.Player(envs, tapes)
            returned = [player.reset(seed=3)] + [player.step() for _ in range(TRAJECTORY_STEPS)]
            record(recorded, f"{id}{kwargs}{mode}", returned)
        single = testing.play_single(gym.make(id, **kwargs), tapes[0], 3, TRAJECTORY_STEPS)
        record(recorded, f"{id}{kwargs}single", [tuple(event) for event in single])
    return recorded


def record(recorded, name, steps):
    for t, step in enumerate(steps):
        for path, value in leaves(step, ""):
            recorded.setdefault(f"{name}{path}", []).append((t, value))


def leaves(value, path):
    """All values in nested tuples and dicts, with their paths."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else None
    if parts is None:
        return [(path, value)]
    return [leaf for key, part in parts for leaf in leaves(part, f"{path}[{key!r}]")]


def write_trajectories(path):
    recorded = trajectories(CASES)
    arrays = {name: np.array([value for _, value in steps]) for name, steps in recorded.items()}
    times = {f"{name} (steps)": np.array([t for t, _ in steps]) for name, steps in recorded.items()}
    np.savez(path, **arrays, **times)


def run_in_subprocess(path, **environment):
    """Writes the trajectories in a new process with these environment variables."""
    command = [sys.executable, "-W", "error::RuntimeWarning", __file__, str(path)]
    result = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    with np.load(path) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("trajectories") / "compiled.npz"
    write_trajectories(path)
    with np.load(path) as stored:
        return dict(stored)


def assert_bit_for_bit(one, two):
    assert one.keys() == two.keys()
    for name in one:
        found = testing.difference(one[name], two[name], name)
        assert found is None, "{} is {} compiled, but {}".format(*found)
        assert one[name].tobytes() == two[name].tobytes(), name


def test_uncompiled_kernels_give_the_same_trajectories(compiled, tmp_path):
    """Plain Python checks every index, too: IndexError where a compiled kernel would read or write elsewhere."""
    assert_bit_for_bit(compiled, run_in_subprocess(tmp_path / "plain.npz", NUMBA_DISABLE_JIT="1"))


def test_settings_name_registered_ids():
    assert IDS, "no id is registered"
    assert SETTINGS.keys() <= set(IDS)
    assert all(case in CASES for case in DETERMINISTIC)
    assert {*WITH_OPTIONS} <= {*IDS}


def test_import_is_light():
    """Registering loads neither numba nor torch."""
    code = "import sys, explore_gym; sys.exit(bool({'numba', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert importlib.util.find_spec("explore_gym").origin == explore_gym.__file__


if __name__ == "__main__":
    write_trajectories(sys.argv[1])
