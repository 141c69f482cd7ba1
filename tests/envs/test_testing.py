"""The checker passes a correct environment and flags each broken one by the check that is meant for it."""

from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from explore_gym.envs import testing

NUM_STEPS = 60


class Walk(gym.Env):
    """Seven cells in a row; a move fails with probability 0.3; the right end terminates with reward 1, step 20 truncates."""

    observation_space = spaces.Dict({"cell": spaces.Discrete(7), "near": spaces.Box(0, 1, (2,), np.float32)})
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.metadata = {"render_modes": []}
        self.cell = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell, self.clock = int(self.np_random.integers(1, 4)), 0
        self.visits = np.zeros(7, np.int64)
        return self.observe(), self.inform()

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"action must be 0 or 1, got {action!r}")
        if self.cell is None:
            raise gym.error.ResetNeeded("step before reset")
        slips = self.np_random.random() < 0.3
        self.cell = max(0, self.cell if slips else self.cell + 2 * int(action) - 1)
        self.clock += 1
        self.visits[self.cell] += 1
        goal = self.cell == 6
        return self.observe(), float(goal), goal, self.clock >= 20, self.inform()

    def observe(self):
        return {"cell": np.int64(self.cell), "near": np.array([self.cell == 0, self.cell == 5], np.float32)}

    def inform(self):
        return {"steps": self.clock, "coverage": float((self.visits > 0).mean()), "visits": self.visits.copy()}

    def get_state(self):
        return deepcopy((self.cell, self.clock, self.visits, self.np_random.bit_generator.state))

    def set_state(self, state):
        self.cell, self.clock, self.visits, self.np_random.bit_generator.state = deepcopy(state)

    def fork(self, num_envs):
        envs = Walks(num_envs)
        envs.reset(seed=0)
        envs.set_state([(self.get_state(), False)] * num_envs)
        return envs


class Walks(SyncVectorEnv):
    """Gymnasium's SyncVectorEnv with what the checker asks for beyond it: nothing happens in a refused call, and states."""

    def __init__(self, num_envs, autoreset_mode=AutoresetMode.NEXT_STEP, copy=True, num_threads=1):
        super().__init__([Walk] * num_envs, autoreset_mode=autoreset_mode, copy=copy)

    def reset(self, *, seed=None, options=None):
        seeds = [seed] if seed is None or isinstance(seed, int) else list(seed)
        if not all(s is None or (isinstance(s, int) and s >= 0) for s in seeds) or len(seeds) not in (1, self.num_envs):
            raise ValueError(f"seed must be an int >= 0 or one for each of {self.num_envs} environments, got {seed!r}")
        if options and "reset_mask" in options:
            mask = options["reset_mask"]
            if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
                raise ValueError(f"reset_mask must be bool ({self.num_envs},) and have a lane set, got {mask!r}")
        return super().reset(seed=seed, options=dict(options or {}))

    def step(self, actions):
        valid = isinstance(actions, np.ndarray) and actions.dtype == np.int64 and actions in self.action_space
        if not valid or any(env.cell is None for env in self.envs):
            raise ValueError(f"actions must be in {self.action_space}, after a reset, got {actions!r}")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._autoreset_envs.any():
            raise ValueError(f"lanes {np.flatnonzero(self._autoreset_envs)} have ended")
        return super().step(actions)

    def get_state(self, lanes=None):
        lanes = range(self.num_envs) if lanes is None else lanes
        return [(self.envs[i].get_state(), bool(self._autoreset_envs[i])) for i in lanes]

    def set_state(self, state, lanes=None):
        for i, (inner, ended) in zip(range(self.num_envs) if lanes is None else lanes, state, strict=True):
            self.envs[i].set_state(inner)
            self._autoreset_envs[i] = ended


class LanesSeededOffByOne(Walks):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed + 1 if isinstance(seed, int) and seed >= 0 else seed, options=options)


class SeedsDependOnNumEnvs(Walks):
    def reset(self, *, seed=None, options=None):
        stride = 1 if self.num_envs <= 5 else 2
        if isinstance(seed, int) and seed >= 0:
            seed = [seed + stride * i for i in range(self.num_envs)]
        return super().reset(seed=seed, options=options)


class FinalObservationIsTheNextEpisodes(Walks):
    def step(self, actions):
        obs, rewards, terminations, truncations, info = super().step(actions)
        for i in np.flatnonzero(info.get("_final_obs", [])):
            info["final_obs"][i] = deepcopy(testing.lane(self.single_observation_space, obs, i))
        return obs, rewards, terminations, truncations, info


class FinalInfoIsTheNextEpisodes(Walks):
    def step(self, actions):
        *returned, info = super().step(actions)
        if "final_info" in info:
            info["final_info"]["steps"] = np.where(info["_final_info"], info["steps"], 0)
        return *returned, info


class SameStepPaysTheResetToo(Walks):
    def step(self, actions):
        obs, rewards, *flags, info = super().step(actions)
        return obs, rewards * np.where(info.get("_final_obs", False), 0.0, 1.0), *flags, info


class SomethingSurvivesTheSeed(Walks):
    """The number of seeded resets leaks into the 50th step behind them."""

    seeded = steps = 0

    def reset(self, *, seed=None, options=None):
        returned = super().reset(seed=seed, options=options)
        if isinstance(seed, int):
            self.seeded, self.steps = self.seeded + 1, 0
        return returned

    def step(self, actions):
        obs, rewards, *rest = super().step(actions)
        self.steps += 1
        return obs, rewards + 0.01 * (self.steps == 50 and self.seeded > 2), *rest


class MaskOfIntegers(Walks):
    def step(self, actions):
        *returned, info = super().step(actions)
        return *returned, {**info, "_steps": info["_steps"].astype(np.int8)}


class MaskMissing(Walks):
    def step(self, actions):
        *returned, info = super().step(actions)
        return *returned, {key: value for key, value in info.items() if key != "_coverage"}


class InfoOfAnotherType(Walks):
    def step(self, actions):
        *returned, info = super().step(actions)
        return *returned, {**info, "coverage": info["coverage"].astype(object)}


class FinalMaskOfAllLanes(Walks):
    def step(self, actions):
        *returned, info = super().step(actions)
        if "_final_info" in info:
            info["_final_info"] = np.ones(self.num_envs, bool)
        return *returned, info


class SeededPartialResetReseedsAllLanes(Walks):
    def reset(self, *, seed=None, options=None):
        returned = super().reset(seed=seed, options=options)
        if seed is not None and options and "reset_mask" in options:
            for i, env in enumerate(self.envs):
                if not options["reset_mask"][i]:
                    env.np_random = np.random.default_rng(seed + i)
        return returned


class PartialResetForgetsEndedLanes(Walks):
    def reset(self, *, seed=None, options=None):
        returned = super().reset(seed=seed, options=options)
        self._autoreset_envs[:] = False
        return returned


class MaskTakenFromTheCaller(Walks):
    def reset(self, *, seed=None, options=None):
        returned = super().reset(seed=seed, options=options)
        if options:
            options.pop("reset_mask")
        return returned


class MaskOfIntegersAccepted(Walks):
    def reset(self, *, seed=None, options=None):
        if options and getattr(options["reset_mask"], "dtype", None) == np.int64:
            options = {"reset_mask": options["reset_mask"].astype(bool)}
        return super().reset(seed=seed, options=options)


class ObservationsShareABuffer(Walks):
    def __init__(self, num_envs, copy=True, **kwargs):
        super().__init__(num_envs, copy=False, **kwargs)


class RewardsShareABuffer(Walks):
    def step(self, actions):
        obs, rewards, *rest = super().step(actions)
        self.buffer = getattr(self, "buffer", np.zeros(self.num_envs))
        self.buffer[:] = rewards
        return obs, self.buffer, *rest


class InfoIsTheStateItself(Walks):
    """What the caller writes into the info becomes the clock of lane 0."""

    def step(self, actions):
        if hasattr(self, "handed_out"):
            self.envs[0].clock = int(self.handed_out[0])
        *returned, info = super().step(actions)
        self.handed_out = info["steps"]
        return *returned, info

    def reset(self, *, seed=None, options=None):
        returned = super().reset(seed=seed, options=options)
        self.handed_out = returned[1]["steps"] if returned[1]["_steps"][0] else self.handed_out
        return returned

    def set_state(self, state, lanes=None):
        super().set_state(state, lanes)
        self.handed_out = np.array([env.clock for env in self.envs])


class StateWithoutRandomness(Walks):
    def set_state(self, state, lanes=None):
        streams = [env.np_random.bit_generator.state for env in self.envs]
        super().set_state(state, lanes)
        for env, stream in zip(self.envs, streams, strict=True):
            env.np_random.bit_generator.state = stream


class StateWithoutEndedLanes(Walks):
    def get_state(self, lanes=None):
        return [(inner, False) for inner, _ in super().get_state(lanes)]


class LaneStateGoesToAllLanes(Walks):
    def set_state(self, state, lanes=None):
        super().set_state(state * self.num_envs if len(state) == 1 else state)


class ActionsClipped(Walks):
    def step(self, actions):
        if isinstance(actions, np.ndarray) and actions.dtype == np.int64:
            actions = np.clip(actions, 0, 1)
        return super().step(actions)


class FractionsRoundedDown(Walks):
    def step(self, actions):
        if isinstance(actions, np.ndarray) and actions.dtype == float and np.isfinite(actions).all():
            actions = actions.astype(np.int64)
        return super().step(actions)


class RefusedActionsMoveLanes(Walks):
    def step(self, actions):
        try:
            return super().step(actions)
        except ValueError:
            if self.envs[0].cell is not None:
                self.envs[0].clock += 1
            raise


class StepOfEndedLanesAccepted(Walks):
    def step(self, actions):
        self._autoreset_envs &= self.autoreset_mode != AutoresetMode.DISABLED
        return super().step(actions)


class BuffersLagBehind(Walks):
    def __init__(self, num_envs, copy=True, **kwargs):
        super().__init__(num_envs, **kwargs)
        self.lags, self.last = not copy, 0.0

    def step(self, actions):
        obs, rewards, *rest = super().step(actions)
        self.last, shown = rewards, self.last if self.lags else rewards
        return obs, shown + np.zeros(self.num_envs), *rest


class ThreadsSwapLanes(Walks):
    def __init__(self, num_envs, num_threads=1, **kwargs):
        super().__init__(num_envs, **kwargs)
        self.swaps = num_threads > 1

    def step(self, actions):
        return super().step(actions[::-1] if self.swaps else actions)


BROKEN = {
    "lanes": [LanesSeededOffByOne],
    "num_envs": [SeedsDependOnNumEnvs],
    "autoreset_modes": [FinalObservationIsTheNextEpisodes, FinalInfoIsTheNextEpisodes, SameStepPaysTheResetToo],
    "determinism": [SomethingSurvivesTheSeed],
    "infos": [MaskOfIntegers, MaskMissing, InfoOfAnotherType, FinalMaskOfAllLanes],
    "partial_reset": [
        SeededPartialResetReseedsAllLanes,
        PartialResetForgetsEndedLanes,
        MaskTakenFromTheCaller,
        MaskOfIntegersAccepted,
    ],
    "buffers": [ObservationsShareABuffer, RewardsShareABuffer, InfoIsTheStateItself],
    "snapshots": [StateWithoutRandomness, StateWithoutEndedLanes, LaneStateGoesToAllLanes],
    "bad_input": [ActionsClipped, FractionsRoundedDown, RefusedActionsMoveLanes, StepOfEndedLanesAccepted],
    "options": [BuffersLagBehind, ThreadsSwapLanes],
}


def failures(make_vec, make_single=None, **kwargs):
    """The names of the checks that fail."""
    failed = []
    for name in testing.CHECKS:
        try:
            testing.run_check(name, make_vec, make_single, num_steps=NUM_STEPS, **kwargs)
        except AssertionError:
            failed.append(name)
    return failed


def test_passes_a_correct_environment_and_leaves_no_check_out():
    results = testing.check_vector_env(Walks, Walk, num_steps=NUM_STEPS)
    assert results == dict.fromkeys(testing.CHECKS)


def test_every_check_has_a_broken_environment():
    assert BROKEN.keys() == testing.CHECKS.keys()


@pytest.mark.parametrize(("check", "broken"), [(name, cls) for name, classes in BROKEN.items() for cls in classes])
def test_flags_the_broken_environment_by_its_own_check_alone(check, broken):
    assert failures(broken, Walk) == [check]


def test_message_names_lane_step_key_and_both_values():
    with pytest.raises(AssertionError) as error:
        testing.check_autoreset_modes(SameStepPaysTheResetToo, num_steps=NUM_STEPS)
    message = str(error.value)
    assert message.startswith("lane ") and "episode " in message and "step " in message
    assert message.endswith("reward is 1.0 in mode NEXT_STEP but 0.0 in mode SAME_STEP")


def test_sync_vector_env_keeps_nothing_of_the_callers_options_and_moves_lanes_before_a_refused_action():
    def make_vec(num_envs, **kwargs):
        return SyncVectorEnv([Walk] * num_envs, **kwargs)

    assert failures(make_vec, Walk) == ["partial_reset", "bad_input"]
    with pytest.raises(AssertionError, match="caller's options"):
        testing.check_partial_reset(make_vec, num_steps=NUM_STEPS)


def test_passes_a_registered_id_in_a_sync_vector_env():
    skip = ("partial_reset", "bad_input")
    results = testing.check_id("MountainCar-v0", num_steps=NUM_STEPS, skip=skip, max_episode_steps=20)
    assert results.pop("snapshots") == "no get_state"
    assert results.pop("options") == "the factory takes no num_threads"
    assert {results.pop("partial_reset"), results.pop("bad_input")} == {"skipped"}
    assert set(results.values()) == {None}


def test_flags_gymnasiums_cart_pole_vector_env_whose_lanes_depend_on_num_envs():
    def make_vec(num_envs):
        return gym.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode="vector_entry_point")

    differs = r"lane 0, episode 0, step 0: observation\[1\] is .* in a batch of 3 but .* in a batch of 7"
    with pytest.raises(AssertionError, match=differs):
        testing.check_num_envs(make_vec, num_steps=10)
    with pytest.raises(AssertionError, match="lane 0, episode 0"):
        testing.check_lanes(make_vec, lambda: gym.make("CartPole-v1"), num_steps=NUM_STEPS)


def test_flags_frozen_lake_whose_integer_probability_at_reset_truncates_that_of_other_lanes():
    """The info of a reset has the int 1: the batch's array becomes integer, and the 1/3 of a lane behind it 0."""
    make_vec, make_single = testing.factories("FrozenLake-v1")
    message = r"info\['prob'\] is 0 in the batch seeded 0 but 0.333.* in the single environment seeded"
    with pytest.raises(AssertionError, match=message):
        testing.check_lanes(make_vec, make_single, num_steps=NUM_STEPS)


def test_flags_nle_which_ignores_the_seed():
    pytest.importorskip("nle")
    make_vec, _ = testing.factories("NetHackScore-v0")
    with pytest.raises(AssertionError, match=r"lane 0, episode 0, step 0: observation\['.*behind reset\(seed=0\)"):
        testing.check_determinism(make_vec, num_steps=20)


def test_flags_an_environment_that_ignores_the_seed_and_one_that_always_starts_alike():
    class Fixed(Walks):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=0, options=options)

    with pytest.raises(AssertionError, match=r"equal those behind reset\(seed=0\): the seed is ignored"):
        testing.check_determinism(Fixed, num_steps=NUM_STEPS)
    with pytest.raises(AssertionError, match="though said to be deterministic"):
        testing.check_determinism(Walks, num_steps=NUM_STEPS, deterministic=True)
    testing.check_determinism(Fixed, num_steps=NUM_STEPS, deterministic=True)


def test_asks_for_more_steps_if_no_episode_ends():
    with pytest.raises(AssertionError, match="no episode ended within 5 steps"):
        testing.check_autoreset_modes(Walks, num_steps=5)


def test_unknown_name_to_skip_is_refused():
    with pytest.raises(ValueError, match=r"skip names .*'speed'"):
        testing.check_vector_env(Walks, skip=("speed",))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 5]),
        spaces.MultiBinary(3),
        spaces.Box(-1, 1, (2,), np.float32),
        spaces.Box(0, 255, (2, 2), np.uint8),
        spaces.Text(5),
        spaces.Dict({"move": spaces.Discrete(3), "say": spaces.Text(5)}),
        spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 1, (1,), np.float64))),
    ],
    ids=str,
)
def test_bad_actions_are_outside_the_space(space):
    space.seed(0)
    bad = testing.bad_actions(space, space.sample())
    assert len(bad) >= 4
    for what, action in bad:
        if "fraction" not in what and "NaN" not in what and "strings" not in what:  # Gymnasium's spaces take some of these
            assert action not in space, f"{what}: {action!r}"


def test_difference_names_the_first_place_and_takes_nan_for_equal():
    one = {"a": np.array([[1.0, np.nan], [2.0, 3.0]]), "b": ("x", 1)}
    assert testing.difference(one, deepcopy(one), "info") is None
    assert testing.difference(one, {**one, "a": np.array([[1.0, np.nan], [2.0, 4.0]])}, "info") == ("info['a'][1, 1]", 3.0, 4.0)
    assert testing.difference(one, {**one, "b": ("x", 2)}, "info") == ("info['b'][1]", 1, 2)
    assert testing.difference(one, {"a": one["a"]}, "info") == ("set of keys of info", ["a", "b"], ["a"])
    assert testing.difference(np.zeros(2), np.zeros(2, int), "obs") == ("dtype of obs", np.dtype(float), np.dtype(int))
