"""Checks that a vector environment does what Gymnasium's documentation promises, for any environment, not only ours.

Gymnasium's `check_env` looks at one environment for a few steps. The checks here play whole episodes and compare exactly:

    from explore_gym.envs import testing

    testing.check_id("Explore/FourRooms-v0", size=9)                  # everything registered with Gymnasium
    testing.check_vector_env(make_vec, make_single, num_steps=2000)   # or two factories
    testing.check_num_envs(make_vec)                                  # or one check alone

`make_vec(num_envs=N, ...)` returns a new `gymnasium.vector.VectorEnv` and takes `autoreset_mode=` (an `AutoresetMode`)
where the environment offers the choice, and `copy=` and `num_threads=` where it has them; `make_single()` returns a new
`gymnasium.Env`. A check raises `AssertionError` with the lane, the step, the key and both values; it returns None when it
passed, or a sentence saying why it doesn't apply.

Gymnasium's own `SyncVectorEnv` fails `check_partial_reset` (it removes the mask from the caller's options) and
`check_bad_input` (the lanes before a refused action have already moved).
"""

from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array

NUM_ENVS = 3
NUM_STEPS = 1000  # per run: long enough for several episodes of most environments
SHORT = 25  # steps after an intervention whose effect is looked for
MODES = tuple(AutoresetMode)
OTHER_SEED = 1_000_003  # so far from the first seed that no lane of one batch has the seed of a lane of the other

MakeVec = Callable[..., VectorEnv]
MakeSingle = Callable[[], gym.Env]


class Event(NamedTuple):
    """One thing that happened to a lane: a reset (step 0, reward 0, no flags) or a transition."""

    episode: int
    step: int
    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict


def event(
    episode: int, step: int, obs: Any, info: dict, reward: Any = 0.0, terminated: bool = False, truncated: bool = False
) -> Event:
    """An event that later changes of the caller's arrays don't reach."""
    return Event(episode, step, deepcopy(obs), float(reward), bool(terminated), bool(truncated), deepcopy(info))


class Player:
    """Plays a vector environment and writes down, lane by lane, what happened: the same list in every autoreset mode.

    Lane i's k-th transition since its last explicit reset takes `tapes[i][k]`; the action that NEXT_STEP ignores isn't
    counted.
    """

    def __init__(self, envs: VectorEnv, tapes: list[list]):
        self.envs, self.tapes = envs, tapes
        self.mode = envs.metadata["autoreset_mode"]  # now: SyncVectorEnv writes into metadata that instances share
        self.events: list[list[Event]] = [[] for _ in range(envs.num_envs)]
        self.taken = np.zeros(envs.num_envs, int)
        self.pending = np.zeros(envs.num_envs, bool)  # NEXT_STEP: the next step resets this lane

    def close(self) -> None:
        self.envs.close()

    def reset(self, mask: np.ndarray | None = None, **kwargs: Any) -> tuple[Any, dict]:
        """Resets all lanes, or those in `mask` (num_envs,), and restarts their tapes."""
        if mask is not None:
            kwargs["options"] = {"reset_mask": mask.copy()}
        returned = obs, info = self.envs.reset(**kwargs)
        for i in range(self.envs.num_envs) if mask is None else np.flatnonzero(mask).tolist():
            self.taken[i], self.pending[i] = 0, False
            self._record_reset(i, lane(self.envs.single_observation_space, obs, i), lane_info(info, i))
        return returned

    def next_action(self) -> Any:
        lanes = [tape[k % len(tape)] for tape, k in zip(self.tapes, self.taken, strict=True)]
        space = self.envs.single_action_space
        out: Any = create_empty_array(space, self.envs.num_envs)
        return concatenate(space, lanes, out)

    def step(self) -> tuple:
        """Steps all lanes and returns what the environment returned."""
        returned = obs, rewards, terminations, truncations, info = self.envs.step(self.next_action())
        done = np.logical_or(terminations, truncations)
        space = self.envs.single_observation_space
        for i in range(self.envs.num_envs):
            end = rewards[i], terminations[i], truncations[i]
            if self.mode == AutoresetMode.NEXT_STEP and self.pending[i]:
                self._record_reset(i, lane(space, obs, i), lane_info(info, i), *end)
                continue
            self.taken[i] += 1
            if self.mode == AutoresetMode.SAME_STEP and done[i]:
                for key in ("final_obs", "final_info"):
                    assert key in info, f"lane {i} ended its episode in SAME_STEP mode and the info has no {key!r}"
                final = info["final_obs"]
                final = final[i] if is_object_array(final) else lane(space, final, i)
                self._record(i, final, *end, lane_info(info["final_info"], i))
                self._record_reset(i, lane(space, obs, i), lane_info(info, i))
            else:
                self._record(i, lane(space, obs, i), *end, lane_info(info, i))
        if self.mode == AutoresetMode.NEXT_STEP:
            self.pending = done.copy()
        if self.mode == AutoresetMode.DISABLED and done.any():
            taken = self.taken.copy()
            self.reset(mask=done)
            self.taken = taken
        return returned

    def play(self, num_steps: int) -> list[list[Event]]:
        for _ in range(num_steps):
            self.step()
        return self.events

    def play_until_done(self, num_steps: int) -> bool:
        """Stops behind the first step that ends an episode; False if none of `num_steps` does."""
        return any(np.logical_or(*self.step()[2:4]).any() for _ in range(num_steps))

    def _record(self, i, obs, reward, terminated, truncated, info):
        episode, step = self.events[i][-1][:2]
        self.events[i].append(event(episode, step + 1, obs, info, reward, terminated, truncated))

    def _record_reset(self, i, obs, info, *end):
        episode = self.events[i][-1].episode + 1 if self.events[i] else 0
        self.events[i].append(event(episode, 0, obs, info, *end))


def sample_actions(space: gym.Space, num_envs: int, num_steps: int, seed: int = 0) -> list[list]:
    """One tape of actions per lane; lane i's depends on `seed + i` alone, not on `num_envs`."""
    tapes = []
    for i in range(num_envs):
        space = deepcopy(space)
        space.seed(seed + i)
        tapes.append([space.sample() for _ in range(num_steps)])
    return tapes


def lane(space: gym.Space, batch: Any, i: int) -> Any:
    """Lane i of a batch of elements of `space`."""
    if isinstance(space, spaces.Dict):
        return {key: lane(subspace, batch[key], i) for key, subspace in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(lane(subspace, part, i) for subspace, part in zip(space, batch, strict=True))
    return batch[i]


def lane_info(info: dict, i: int) -> dict:
    """The info of lane i alone: keys whose mask is set (or that have none), without masks, `final_obs` and `final_info`."""
    single = {}
    for key, value in info.items():
        is_mask = key.startswith("_") and key[1:] in info
        if is_mask or key in ("final_obs", "final_info") or ("_" + key in info and not info["_" + key][i]):
            continue
        single[key] = lane_info(value, i) if isinstance(value, dict) else value[i]
    return single


def difference(one: Any, two: Any, path: str) -> tuple[str, Any, Any] | None:
    """The first place where two nested values differ, as (path, value of one, value of two); NaN equals NaN."""
    if isinstance(one, dict) and isinstance(two, dict):
        if one.keys() != two.keys():
            return f"set of keys of {path}", sorted(one), sorted(two)
        parts = [(one[key], two[key], f"{path}[{key!r}]") for key in one]
    elif isinstance(one, tuple | list) and isinstance(two, tuple | list):
        if len(one) != len(two):
            return f"length of {path}", len(one), len(two)
        parts = [(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(one, two, strict=True))]
    elif is_object_array(one) and is_object_array(two):
        return difference(one.tolist(), two.tolist(), path)
    elif is_numeric(one) and is_numeric(two):
        return numeric_difference(one, two, path)
    else:
        return None if type(one) is type(two) and one == two else (path, one, two)
    return next((found for part in parts if (found := difference(*part))), None)


def numeric_difference(one, two, path):
    a, b = np.asarray(one), np.asarray(two)
    if a.shape != b.shape:
        return f"shape of {path}", a.shape, b.shape
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray) and a.dtype != b.dtype:
        return f"dtype of {path}", a.dtype, b.dtype
    unequal = (a != b) & ~((a != a) & (b != b))
    if not unequal.any():
        return None
    index = tuple(int(k) for k in np.argwhere(unequal)[0])
    return (f"{path}{list(index)}" if index else path), a[index], b[index]


def is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.number | np.bool_ | int | float) and not is_object_array(value)


def is_object_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object


def first_difference(one: list[Event], two: list[Event]) -> str | None:
    """The first difference of two lists of events, up to the end of the shorter, in words with {} for the names of the two."""
    for a, b in zip(one, two, strict=False):
        for field in Event._fields:
            if found := difference(getattr(a, field), getattr(b, field), field):
                path, x, y = (str(part).replace("{", "{{").replace("}", "}}") for part in found)
                return f"episode {a.episode}, step {a.step}: {path} is {x} {{}} but {y} {{}}"
    return None


def assert_equal(one: Any, two: Any, name_one: str, name_two: str, lanes: Any = None) -> None:
    """Asserts that two runs, events by lane, are equal as far as both go, in all lanes or the given ones."""
    for i in range(min(len(one), len(two))) if lanes is None else lanes:
        if found := first_difference(one[i], two[i]):
            raise AssertionError(f"lane {i}, " + found.format(name_one, name_two))


def refuses(
    what: str, function: Callable, *args: Any, kinds: tuple[type[Exception], ...] = (Exception,), **kwargs: Any
) -> None:
    """Asserts that the call, described by `what`, raises one of `kinds`."""
    try:
        function(*args, **kwargs)
    except kinds:
        return
    except Exception as error:
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise AssertionError(f"{what} should raise {wanted}, it raised {type(error).__name__}: {error}") from error
    raise AssertionError(f"{what} was accepted, it should raise an exception")


def player(
    make_vec: MakeVec, num_envs: int = NUM_ENVS, num_steps: int = NUM_STEPS, seed: int | None = 0, **kwargs: Any
) -> Player:
    """A new environment, reset with `seed` (not at all if None), and actions for `num_steps`."""
    envs = make_vec(num_envs=num_envs, **kwargs)
    assert envs.num_envs == num_envs, f"asked for {num_envs} environments, num_envs is {envs.num_envs}"
    mode = envs.metadata.get("autoreset_mode")
    wanted = kwargs.get("autoreset_mode", mode)
    assert isinstance(mode, AutoresetMode), f"metadata['autoreset_mode'] is {mode!r}, expected an AutoresetMode"
    assert mode == wanted, f"metadata['autoreset_mode'] is {mode}, asked for {wanted}"
    p = Player(envs, sample_actions(envs.single_action_space, num_envs, num_steps))
    if seed is not None:
        p.reset(seed=seed)
    return p


def play(
    make_vec: MakeVec, num_envs: int = NUM_ENVS, num_steps: int = NUM_STEPS, seed: int = 0, **kwargs: Any
) -> list[list[Event]]:
    with closing(player(make_vec, num_envs, num_steps, seed, **kwargs)) as p:
        return p.play(num_steps)


def check_lanes(make_vec: MakeVec, make_single: MakeSingle, num_steps: int = NUM_STEPS, seed: int = 0) -> None:
    """Lane i of a batch seeded s is the single environment seeded s + i, in all that it returns, over whole episodes."""
    batch = play(make_vec, NUM_ENVS, num_steps, seed)
    tapes = None
    for i, events in enumerate(batch):
        env = make_single()
        tapes = tapes or sample_actions(env.action_space, NUM_ENVS, num_steps)
        single = play_single(env, tapes[i], seed + i, len(events))
        env.close()
        name = f"in the single environment seeded {seed + i}"
        assert_equal({i: events}, {i: single}, f"in the batch seeded {seed}", name, [i])


def play_single(env: gym.Env, tape: list, seed: int, num_events: int) -> list[Event]:
    """Events of a single environment from a seeded reset on."""
    obs, info = env.reset(seed=seed)
    return [event(0, 0, obs, info), *continue_single(env, tape, num_events - 1)]


def continue_single(env: gym.Env, tape: list, num_events: int) -> list[Event]:
    """The next events of a single environment that is reset whenever an episode ends."""
    events: list[Event] = []
    episode = step = taken = 0
    done = False
    while len(events) < num_events:
        if done:
            obs, info = env.reset()
            episode, step, done = episode + 1, 0, False
            events.append(event(episode, step, obs, info))
        else:
            obs, reward, terminated, truncated, info = env.step(tape[taken % len(tape)])
            taken, step, done = taken + 1, step + 1, bool(terminated or truncated)
            events.append(event(episode, step, obs, info, reward, terminated, truncated))
    return events


def check_num_envs(make_vec: MakeVec, num_steps: int = NUM_STEPS, seed: int = 0) -> None:
    """The lanes of a batch of 3 are the first lanes of a batch of 7."""
    assert_equal(play(make_vec, 3, num_steps, seed), play(make_vec, 7, num_steps, seed), "in a batch of 3", "in a batch of 7")


def check_autoreset_modes(
    make_vec: MakeVec, num_steps: int = NUM_STEPS, seed: int = 0, autoreset_modes: tuple[AutoresetMode, ...] = MODES
) -> str | None:
    """All autoreset modes give the same transitions, also the last observation and info of each episode."""
    if len(autoreset_modes) < 2:
        return "fewer than two autoreset modes"
    runs = {mode: play(make_vec, NUM_ENVS, num_steps, seed, autoreset_mode=mode) for mode in autoreset_modes}
    first, *others = autoreset_modes
    ended = any(e.terminated or e.truncated for events in runs[first] for e in events)
    assert ended, f"no episode ended within {num_steps} steps, so autoreset was not tried: pass a larger num_steps"
    for mode in others:
        assert_equal(runs[first], runs[mode], f"in mode {first.name}", f"in mode {mode.name}")
    return None


def check_determinism(make_vec: MakeVec, num_steps: int = NUM_STEPS, seed: int = 0, deterministic: bool = False) -> None:
    """A seed fixes the whole run, also of an environment that was used before and over resets without a seed, and matters.

    Args:
        deterministic: the environment draws nothing at random, so that all seeds must give the same run; otherwise
            another seed, and a reset without a seed, must give another one.
    """

    def run(p: Player, seed: int) -> tuple[list[list[Event]], list[list[Event]]]:
        """Events behind the seeded reset, and behind the reset without a seed that follows."""
        p.events = [[] for _ in p.events]
        p.reset(seed=seed)
        seeded = p.play(num_steps)
        p.events = [[] for _ in p.events]
        p.reset()
        return seeded, p.play(num_steps)

    with closing(player(make_vec, num_steps=num_steps, seed=None)) as used:
        seeded, unseeded = run(used, seed)
        other, _ = run(used, seed + OTHER_SEED)
        repeated = {"again in the same environment": run(used, seed)}
    with closing(player(make_vec, num_steps=num_steps, seed=None)) as second:
        repeated["in a second environment"] = run(second, seed)
    for where, (seeded_again, unseeded_again) in repeated.items():
        assert_equal(seeded, seeded_again, f"behind reset(seed={seed})", where)
        assert_equal(unseeded, unseeded_again, f"behind the reset() after reset(seed={seed})", where)
    for events, what in ((other, f"reset(seed={seed + OTHER_SEED})"), (unseeded, "a later reset()")):
        if deterministic:
            assert_equal(seeded, events, f"behind reset(seed={seed})", f"behind {what}, though said to be deterministic")
        else:
            differs = any(first_difference(*pair) for pair in zip(seeded, events, strict=True))
            assert differs, (
                f"{num_steps} steps of all {NUM_ENVS} lanes behind {what} equal those behind reset(seed={seed}): "
                "the seed is ignored, or the environment is deterministic (say deterministic=True)"
            )


def check_infos(
    make_vec: MakeVec,
    make_single: MakeSingle | None = None,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
    autoreset_modes: tuple[AutoresetMode, ...] = MODES,
) -> None:
    """Infos have the form that Gymnasium gives them: for each key an array (num_envs, ...) and a mask `_key`, bool (num_envs,).

    With `make_single`, keys, dtypes, shapes and masks are those of `SyncVectorEnv` over the single environments (the values
    are `check_lanes`' affair). `final_obs` may be Gymnasium's object array or dense, shaped as the observation; in lanes
    whose episode goes on, what dense `final_obs` and `final_info` hold is the observation and info of the step.
    """
    for mode in autoreset_modes:
        with closing(player(make_vec, num_steps=num_steps, seed=None, **_choice(mode, autoreset_modes))) as p:
            expected = None
            if make_single is not None:
                sync = SyncVectorEnv([make_single] * NUM_ENVS, autoreset_mode=mode)
                expected = Player(sync, p.tapes)
                expected.mode = mode
            try:
                _check_info_run(p, expected, num_steps, seed)
            finally:
                if expected is not None:
                    expected.close()


def _choice(mode: AutoresetMode, modes: tuple[AutoresetMode, ...]) -> dict:
    """An environment with one mode only need not take the keyword."""
    return {"autoreset_mode": mode} if len(modes) > 1 else {}


def _check_info_run(p: Player, expected: Player | None, num_steps: int, seed: int) -> None:
    num_envs = p.envs.num_envs
    final_layouts: dict[str, dict] = {}
    for t in range(num_steps + 1):
        where = f"mode {p.mode.name}, " + (f"step {t}" if t else "reset")
        info = p.step()[4] if t else p.reset(seed=seed)[1]
        check_masks(info, num_envs, where)
        if t == 0:
            present = {"final_obs", "final_info"} & info.keys()
            assert not present, f"{where}: the info of a reset contains {sorted(present)}"
        if expected is not None:
            reference = expected.step()[4] if t else expected.reset(seed=seed)[1]
            for name, infos in (("here", info), ("sync", reference)):
                if "final_info" in infos:
                    final_layouts.setdefault(name, layout(infos["final_info"], with_masks=False))
            if found := difference(layout(info), layout(reference), "info"):
                raise AssertionError(f"{where}: {found[0]} is {found[1]}, but {found[2]} in SyncVectorEnv")
    if len(final_layouts) == 2 and (found := difference(final_layouts["here"], final_layouts["sync"], "final_info")):
        raise AssertionError(f"mode {p.mode.name}: {found[0]} is {found[1]}, but {found[2]} in SyncVectorEnv")
    if p.mode == AutoresetMode.SAME_STEP:
        _check_final(p, num_steps)
    if p.mode == AutoresetMode.DISABLED:
        mask = np.arange(num_envs) == 1
        info = p.reset(mask=mask)[1]
        check_masks(info, num_envs, "reset of lane 1 alone")
        reported_outside_mask(info, mask, "reset of lane 1 alone")


def _check_final(p: Player, num_steps: int) -> None:
    """Plays on: masks of `final_obs` and `final_info` are the ends of episodes; what they say of other lanes is the step's."""
    space = p.envs.single_observation_space
    for t in range(1, num_steps + 1):
        obs, _, terminations, truncations, info = p.step()
        done = np.logical_or(terminations, truncations)
        for key in {"final_obs", "final_info"} & info.keys():
            mask = info.get("_" + key)
            ends = f"mode SAME_STEP, step {t}: '_{key}' is {mask}, expected {done}, the lanes that ended"
            assert difference(mask, done, "") is None, ends
        for i in np.flatnonzero(~done).tolist():
            final = lane_info(info.get("final_info", {}), i)
            found = difference(final, lane_info(info, i), "final_info") if final else None
            if "final_obs" in info and not is_object_array(info["final_obs"]):
                found = found or difference(lane(space, info["final_obs"], i), lane(space, obs, i), "final_obs")
            if found:
                where = f"mode SAME_STEP, step {t}, lane {i}, whose episode goes on"
                raise AssertionError(f"{where}: {found[0]} is {found[1]}, but {found[2]} in what the step returned")


def check_masks(info: dict, num_envs: int, where: str) -> None:
    """Every key has a bool mask `_key` of shape (num_envs,), every value the lanes on its first axis."""
    assert isinstance(info, dict), f"{where}: the info is {type(info).__name__}, expected dict"
    for key, value in info.items():
        if key.startswith("_") and key[1:] in info:
            continue
        mask = info.get("_" + key)
        assert isinstance(mask, np.ndarray), f"{where}: info[{key!r}] has no array '_{key}' as its mask, found {mask!r}"
        kind = mask.dtype, mask.shape
        assert kind == (bool, (num_envs,)), f"{where}: mask '_{key}' is {mask.dtype} {mask.shape}, expected bool {(num_envs,)}"
        if isinstance(value, dict) and key != "final_obs":
            check_masks(value, num_envs, f"{where}, {key}")
        elif key != "final_obs" or is_object_array(value):
            shape = np.shape(value)
            found = f"{where}: info[{key!r}] is {type(value).__name__} of shape {shape}"
            assert isinstance(value, np.ndarray) and shape[:1] == (num_envs,), f"{found}, expected array ({num_envs}, ...)"


def reported_outside_mask(info: dict, mask: np.ndarray, where: str) -> None:
    """Asserts that the info claims values for lanes in `mask` alone."""
    for key, own in info.items():
        if key.startswith("_") and key[1:] in info:
            extra = np.flatnonzero(own & ~mask)
            assert not len(extra), f"{where}: mask '{key}' is set for lanes {extra.tolist()}, which have no such info"


def layout(info: dict, with_masks: bool = True) -> dict:
    """Keys, dtypes, shapes and masks of an info, without `final_obs` and `final_info`."""
    described: dict[str, Any] = {}
    for key, value in info.items():
        if key in ("final_obs", "final_info", "_final_obs", "_final_info"):
            continue
        if isinstance(value, dict):
            described[key] = layout(value, with_masks)
        elif not (key.startswith("_") and key[1:] in info):
            described[key] = f"{value.dtype} {value.shape}"
        elif with_masks:
            described[key] = value
    return described


def check_partial_reset(make_vec: MakeVec, num_steps: int = NUM_STEPS, seed: int = 0) -> None:
    """`reset(options={"reset_mask": mask})` does to the lanes in the mask what a full reset would, and to the others nothing.

    A lane whose episode has just ended stays so unless it is in the mask; the caller's dict stays as it is. A mask that
    isn't a bool array of shape (num_envs,) with at least one lane raises TypeError or ValueError.
    """
    stops = {"5 steps": lambda p: p.play(5), "the first end of an episode": lambda p: p.play_until_done(num_steps)}
    for when, go in stops.items():
        for new_seed in (None, seed + OTHER_SEED):
            for masked in range(NUM_ENVS):
                mask = np.arange(NUM_ENVS) == masked
                name = f"behind a reset(seed={new_seed}) of lane {masked} alone, {when} after the start"
                players = part, untouched, full = [player(make_vec, num_steps=num_steps, seed=seed) for _ in range(3)]
                with closing(part), closing(untouched), closing(full):
                    for p in players:
                        go(p)
                    _partial_reset(part, mask, new_seed, untouched, name)
                    full.reset(seed=new_seed)
                    for p in players:
                        p.play(SHORT)
                    assert_equal(part.events, untouched.events, name, "without it", np.flatnonzero(~mask))
                    assert_equal(part.events, full.events, name, f"behind a reset(seed={new_seed}) of all lanes", [masked])
    _check_bad_masks(make_vec, seed)


def _partial_reset(p: Player, mask: np.ndarray, seed: int | None, untouched: Player, name: str) -> None:
    """Resets the lanes in the mask; checks what is returned for the others and that the arguments are left alone."""
    options = {"reset_mask": mask.copy()}
    obs, info = p.envs.reset(seed=seed, options=options)
    kept = list(options) == ["reset_mask"] and np.array_equal(options["reset_mask"], mask)
    assert kept, f"reset changed the caller's options from {{'reset_mask': {mask}}} to {options}"
    space = p.envs.single_observation_space
    for i in range(p.envs.num_envs):
        current = lane(space, obs, i)
        if mask[i]:
            p.taken[i], p.pending[i] = 0, False
            p._record_reset(i, current, lane_info(info, i))
        elif found := difference(current, untouched.events[i][-1].observation, "observation"):
            raise AssertionError(f"lane {i}: {found[0]} is {found[1]} {name}, but was {found[2]}")


def _check_bad_masks(make_vec: MakeVec, seed: int) -> None:
    some = np.arange(NUM_ENVS) == 0
    bad = {
        "a list": some.tolist(),
        "an integer array": some.astype(int),
        "one lane too many": np.append(some, True),
        "one lane too few": some[:-1],
        "two axes": some[:, None],
        "no lane": np.zeros(NUM_ENVS, bool),
    }
    with closing(player(make_vec, seed=seed)) as tried, closing(player(make_vec, seed=seed)) as untouched:
        for what, mask in bad.items():
            options = {"reset_mask": mask}
            named = f"a reset_mask with {what}, {mask!r},"
            refuses(named, tried.envs.reset, options=options, kinds=(TypeError, ValueError))
            assert options.get("reset_mask") is mask, f"reset refused {named} and changed the caller's options to {options}"
            tried.step(), untouched.step()
            assert_equal(tried.events, untouched.events, f"behind a refused reset_mask with {what}", "without it")


def check_buffers(
    make_vec: MakeVec, num_steps: int = 200, seed: int = 0, autoreset_modes: tuple[AutoresetMode, ...] = MODES
) -> None:
    """What reset and step return stays as it is, shares no memory with what they return next, and may be written to."""
    for mode in autoreset_modes:
        choice = _choice(mode, autoreset_modes)
        with closing(player(make_vec, num_steps=num_steps, seed=None, **choice)) as p:
            kept = [p.reset(seed=seed)]
            frozen = [deepcopy(kept[0])]
            for t in range(1, num_steps + 1):
                kept.append(p.step())
                frozen.append(deepcopy(kept[-1]))
                _check_shared_memory(kept[-2], kept[-1], f"mode {mode.name}, step {t}")
            for t, (now, then) in enumerate(zip(kept, frozen, strict=True)):
                if found := difference(now, then, "returned"):
                    became = f"was {found[2]} and became {found[1]} by step {num_steps}"
                    raise AssertionError(f"mode {mode.name}: {found[0]}, of step {t}, {became}")
        _check_scribbling(make_vec, num_steps, seed, choice)


def _check_shared_memory(before: tuple, after: tuple, where: str) -> None:
    earlier, later = arrays(before, "returned"), arrays(after, "returned")
    for path, array in later:
        for old_path, old in earlier:
            constant = not array.flags.writeable and not old.flags.writeable  # it may be handed out again and again
            shared = f"{where}: {path} shares memory with {old_path} of the step before"
            assert constant or not np.may_share_memory(array, old), shared
    final = arrays(after[-1].get("final_obs", ()), "info['final_obs']")
    for path, array in arrays(after[0], "observation"):
        for final_path, old in final:
            assert not np.shares_memory(array, old), f"{where}: {path} shares memory with {final_path}"


def _check_scribbling(make_vec: MakeVec, num_steps: int, seed: int, choice: dict) -> None:
    """Overwrites all that is returned, and the action after use, and compares with a run where nobody does."""
    with closing(player(make_vec, num_steps=num_steps, seed=None, **choice)) as p:
        returned = p.reset(seed=seed)
        for _ in range(num_steps):
            for _, array in arrays(returned, ""):
                if array.flags.writeable:
                    array[...] = 1
            returned = p.step()
        untouched = play(make_vec, num_steps=num_steps, seed=seed, **choice)
        assert_equal(p.events, untouched, "where the caller overwrites all returned arrays", "where it does not")


def arrays(value: Any, path: str) -> list[tuple[str, np.ndarray]]:
    """All non-object arrays in a nested value, with their paths."""
    if isinstance(value, dict):
        parts = [(part, f"{path}[{key!r}]") for key, part in value.items()]
    elif isinstance(value, tuple | list) or is_object_array(value):
        parts = [(part, f"{path}[{i}]") for i, part in enumerate(value)]
    else:
        return [(path, value)] if isinstance(value, np.ndarray) and value.size else []
    return [leaf for part in parts for leaf in arrays(*part)]


def check_snapshots(
    make_vec: MakeVec, make_single: MakeSingle | None = None, num_steps: int = NUM_STEPS, seed: int = 0
) -> str | None:
    """`set_state(get_state())` brings back the same continuation: in place, in another environment, lane by lane, forked.

    Applies where `envs.unwrapped` has `get_state(lanes=None)` and `set_state(state, lanes=None)`; single environments have
    the same without `lanes`, and may have `fork(num_envs)`, which returns a vector environment whose lanes all start from
    this state.
    """
    with closing(player(make_vec, num_steps=num_steps, seed=seed)) as p:
        if not hasattr(p.envs.unwrapped, "get_state"):
            return "no get_state"
        for go in (lambda: p.play(5), lambda: p.play_until_done(num_steps)):
            go()
            _check_restore(p, make_vec, num_steps, seed)
    if make_single is not None:
        _check_single_snapshots(make_single, num_steps, seed)
    return None


def _check_restore(p: Player, make_vec: MakeVec, num_steps: int, seed: int) -> None:
    envs: Any = p.envs.unwrapped  # get_state and set_state are no part of Gymnasium's VectorEnv
    state, taken, pending = envs.get_state(), p.taken.copy(), p.pending.copy()
    moved = envs.get_state([2])

    def continuation(q: Player) -> list[list[Event]]:
        """Events from here on, told apart from the past by a first event that stands for it."""
        q.taken, q.pending = taken.copy(), pending.copy()
        q.events = [[events[-1]._replace(episode=0, step=0)] for events in p.events]
        return [events[1:] for events in q.play(SHORT)]

    expected = continuation(p)
    for again in ("once", "twice"):
        envs.set_state(state)
        assert_equal(expected, continuation(p), "at first", f"after the state was restored {again}")
    with closing(player(make_vec, num_steps=num_steps, seed=seed + OTHER_SEED)) as other:
        other.play(3)
        other_envs: Any = other.envs.unwrapped
        other_envs.set_state(state)
        assert_equal(expected, continuation(other), "at first", "in another environment that was given the state")
    envs.set_state(state)
    envs.set_state(moved, [0])
    tapes, p.tapes = p.tapes, [p.tapes[2], *p.tapes[1:]]
    taken[0], pending[0] = taken[2], pending[2]
    result = continuation(p)
    assert_equal(expected, result, "at first", "after lane 0 was given the state of lane 2", range(1, NUM_ENVS))
    assert_equal([expected[2]], [result[0]], "in lane 2", "in lane 0, which was given the state of lane 2")
    p.tapes = tapes


def _check_single_snapshots(make_single: MakeSingle, num_steps: int, seed: int) -> None:
    with closing(make_single()) as made, closing(make_single()) as another:
        env: Any = made.unwrapped
        other: Any = another.unwrapped
        made.reset(seed=seed)
        another.reset(seed=seed + OTHER_SEED)
        tape = sample_actions(env.action_space, 1, num_steps)[0]
        for action in tape[:5]:
            *_, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        state = env.get_state()
        expected = continue_single(env, tape, SHORT)
        for name, target in (("the same", env), ("another", other)):
            target.set_state(state)
            result = continue_single(target, tape, SHORT)
            assert_equal([expected], [result], "at first", f"in {name} single environment that was given the state")
        if hasattr(env, "fork"):
            env.set_state(state)
            with closing(Player(env.fork(NUM_ENVS), [tape] * NUM_ENVS)) as forked:
                forked.events = [[event(0, 0, None, {})] for _ in range(NUM_ENVS)]
                forks = [events[1:] for events in forked.play(SHORT)]
            assert_equal([expected] * NUM_ENVS, forks, "in the single environment", "in a fork of it")
            assert_equal([expected], [continue_single(env, tape, SHORT)], "at first", "after a fork of it was played")


def check_bad_input(
    make_vec: MakeVec,
    make_single: MakeSingle | None = None,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
    autoreset_modes: tuple[AutoresetMode, ...] = MODES,
) -> None:
    """Whatever is wrong in a call raises an exception and changes nothing, in no lane.

    Tried on batches and on single environments: actions out of range, NaN, fractions, strings, None, wrong shapes, one bad
    lane among good ones, a step before the first reset, seeds that are none, and in mode DISABLED a step of a lane that has
    ended.
    """
    _check_batch_refusals(make_vec, num_steps, seed)
    if make_single is not None:
        _check_single_refusals(make_single, seed)
    if AutoresetMode.DISABLED in autoreset_modes:
        _check_step_of_ended_lane(make_vec, num_steps, seed, _choice(AutoresetMode.DISABLED, autoreset_modes))


def _check_batch_refusals(make_vec: MakeVec, num_steps: int, seed: int) -> None:
    with closing(player(make_vec, seed=None)) as fresh:
        refuses("step before reset in a batch", fresh.envs.step, fresh.next_action())
    tried, untouched = (player(make_vec, num_steps=num_steps, seed=seed) for _ in range(2))
    with closing(tried), closing(untouched):
        space = tried.envs.single_action_space
        for rounds in range(2):
            for what, action in bad_actions(space, tried.next_action(), tried.envs.num_envs):
                refuses(f"step of a batch with {what}, {action!r},", tried.envs.step, action)
                tried.step(), untouched.step()
                assert_equal(tried.events, untouched.events, f"after a refused action with {what}", "without it")
            for bad_seed in (-1, 0.5, "zero", [0] * (NUM_ENVS + 1)):
                refuses(f"reset of a batch with seed={bad_seed!r}", tried.envs.reset, seed=bad_seed)
                tried.step(), untouched.step()
                assert_equal(tried.events, untouched.events, f"after a refused seed {bad_seed!r}", "without it")
            if rounds == 0:  # once more where a lane has ended and waits for its reset
                tried.play_until_done(num_steps), untouched.play_until_done(num_steps)


def _check_single_refusals(make_single: MakeSingle, seed: int) -> None:
    fresh = make_single()
    refuses("step before reset of a single environment", fresh.step, fresh.action_space.sample())
    fresh.close()
    with closing(make_single()) as tried, closing(make_single()) as untouched:
        tape = sample_actions(tried.action_space, 1, NUM_STEPS)[0]
        start = [play_single(env, tape, seed, 5) for env in (tried, untouched)]
        assert_equal([start[0]], [start[1]], "in one single environment", "in another with the same seed")
        done = start[0][-1].terminated or start[0][-1].truncated
        bad: list[tuple[str, Callable, dict]] = []
        bad += [(f"step with {what}", tried.step, {"action": x}) for what, x in bad_actions(tried.action_space, tape[0])]
        bad += [("reset with a bad seed", tried.reset, {"seed": x}) for x in (-1, 0.5, "zero", [0])]
        for what, call, arguments in bad:
            refuses(f"{what}, {arguments}, of a single environment", call, **arguments)
            result, expected = (tuple(env.reset() if done else env.step(tape[5])) for env in (tried, untouched))
            if found := difference(result, expected, "returned"):
                raise AssertionError(f"{found[0]} is {found[1]} after a refused {what}, {arguments}, but {found[2]} without it")
            done = not done and bool(result[2] or result[3])


def _check_step_of_ended_lane(make_vec: MakeVec, num_steps: int, seed: int, choice: dict) -> None:
    tried, untouched = players = [player(make_vec, num_steps=num_steps, seed=seed, **choice) for _ in range(2)]
    with closing(tried), closing(untouched):
        for k in range(num_steps):
            for p in players:
                p.taken[:] = k
                _, _, terminations, truncations, _ = p.envs.step(p.next_action())
            done = np.logical_or(terminations, truncations)
            if done.any():
                break
        else:
            return
        lanes = np.flatnonzero(done).tolist()
        refuses(f"mode DISABLED: a step of lanes {lanes}, which have ended,", tried.envs.step, tried.next_action())
        for p in players:
            p.reset(mask=done)
            p.play(SHORT)
        assert_equal(tried.events, untouched.events, f"after a refused step of the ended lanes {lanes}", "without it")


def bad_actions(space: gym.Space, good: Any, num_envs: int | None = None) -> list[tuple[str, Any]]:
    """Actions outside `space` (batches of `num_envs` if given), made from a good one, each with what is wrong with it."""
    bad: list[tuple[str, Any]] = [("None", None)]
    if isinstance(space, spaces.Dict):
        bad += [(f"key {key!r} missing", {k: v for k, v in good.items() if k != key}) for key in space]
        for key, subspace in space.items():
            parts = bad_actions(subspace, good[key], num_envs)
            bad += [(f"key {key!r} with {what}", {**good, key: part}) for what, part in parts]
    elif isinstance(space, spaces.Tuple):
        bad += [("an element missing", good[:-1])]
        for i, subspace in enumerate(space):
            parts = bad_actions(subspace, good[i], num_envs)
            bad += [(f"element {i} with {what}", (*good[:i], part, *good[i + 1 :])) for what, part in parts]
    elif isinstance(space, spaces.Text):
        too_long = space.character_list[0] * (space.max_length + 1)
        foreign = next(chr(code) for code in range(32, 0x110000) if chr(code) not in space.character_set)
        texts = [("a number", 3), ("a text too long", too_long), ("a foreign character", foreign)]
        if num_envs is not None:
            texts = [(f"{what} in the last lane", (*good[:-1], text)) for what, text in texts]
            texts.append(("a lane missing", good[:-1]))
        bad += texts
    elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Box):
        bad += bad_arrays(space, np.asarray(good), num_envs)
    return bad


def bad_arrays(space: gym.Space, good: np.ndarray, num_envs: int | None) -> list[tuple[str, Any]]:
    low, high = bounds(space)
    beyond = [
        ("a component below the lowest", low - max(1, abs(low))),
        ("a component above the highest", high + max(1, abs(high))),
    ]
    if not np.issubdtype(good.dtype, np.floating):
        beyond += [("a huge component", value) for value in (2**31 + 1, 2**62) if value > high]
    beyond = [(what, value) for what, value in beyond if holds(good.dtype, value)]
    bad = []
    for where, position in (("last", -1), ("first", 0))[: 1 if num_envs is None else 2]:
        for what, value in beyond:
            array = good.copy()
            array.flat[position] = value
            bad.append((f"{what} in the {where} place", array[()]))
        for what, value in (("NaN", np.nan), ("a fraction", 0.5)):
            if what == "NaN" or not np.issubdtype(good.dtype, np.floating):
                array = good.astype(float)
                array.flat[position] = value
                bad.append((f"{what} in the {where} place", array[()]))
    bad += [("strings", np.full(good.shape, "a")[()]), ("an extra axis", np.stack([good, good], axis=-1))]
    if good.ndim:
        bad += [("an element missing", good[:-1]), ("an element too many", np.concatenate([good, good[:1]]))]
    return bad


def bounds(space: gym.Space) -> tuple[Any, Any]:
    """Lowest and highest value of the last component, as Python numbers."""
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return int(np.ravel(space.start).min()), int(np.ravel(space.start + space.nvec).max() - 1)
    if isinstance(space, spaces.MultiBinary):
        return 0, 1
    assert isinstance(space, spaces.Box)
    return space.low.min().item(), space.high.max().item()


def holds(dtype: np.dtype, value: int | float) -> bool:
    """Whether an array of this dtype can hold the value."""
    limits = np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)
    return bool(limits.min <= value <= limits.max)


def check_options(make_vec: MakeVec, num_steps: int = NUM_STEPS, seed: int = 0, num_envs: int = 5) -> str | None:
    """`copy=False` and `num_threads=2`, where the factory takes them, change no value."""
    usual = play(make_vec, num_envs, num_steps, seed)
    refused = []
    for option in ({"copy": False}, {"num_threads": 2}):
        (name,) = option
        try:
            p = player(make_vec, num_envs, num_steps, seed, **option)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            refused.append(name)
            continue
        with closing(p):
            assert_equal(usual, p.play(num_steps), "by default", f"with {name}={option[name]}")
    return f"the factory takes no {' and no '.join(refused)}" if refused else None


def check_vector_env(
    make_vec: MakeVec,
    make_single: MakeSingle | None = None,
    *,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
    deterministic: bool = False,
    autoreset_modes: tuple[AutoresetMode, ...] = MODES,
    skip: tuple[str, ...] = (),
) -> dict[str, str | None]:
    """Runs all checks and returns, by name, None or the reason why one did not apply.

    Args:
        make_single: without it, what compares with the single environment is left out.
        num_steps: steps per run, enough for some episodes to end.
        deterministic: the environment draws nothing at random.
        autoreset_modes: those that the environment offers; if it is one alone, `make_vec` is called without the keyword.
        skip: names in `CHECKS` to leave out.

    Raises:
        AssertionError: all checks that failed, one line each.
        ValueError: a name in `skip` is no check.
    """
    if unknown := set(skip) - CHECKS.keys():
        raise ValueError(f"skip names {sorted(unknown)}, the checks are {list(CHECKS)}")
    results: dict[str, str | None] = {}
    failures = {}
    for name in CHECKS:
        if name in skip:
            results[name] = "skipped"
            continue
        try:
            results[name] = run_check(name, make_vec, make_single, num_steps, seed, deterministic, autoreset_modes)
        except AssertionError as error:
            failures[name] = str(error)
    if failures:
        raise AssertionError("\n".join(f"check_{name}: {message}" for name, message in failures.items()))
    return results


def run_check(
    name: str,
    make_vec: MakeVec,
    make_single: MakeSingle | None = None,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
    deterministic: bool = False,
    autoreset_modes: tuple[AutoresetMode, ...] = MODES,
) -> str | None:
    """Runs one of `CHECKS`, with those of the arguments that it takes."""
    length, modes = {"num_steps": num_steps, "seed": seed}, {"autoreset_modes": autoreset_modes}
    if name == "lanes" and make_single is None:
        return "no single environment to compare with"
    arguments: dict[str, dict] = {
        "lanes": {"make_single": make_single, **length},
        "num_envs": length,
        "autoreset_modes": {**length, **modes},
        "determinism": {"deterministic": deterministic, **length},
        "infos": {"make_single": make_single, **length, **modes},
        "partial_reset": length,
        "buffers": {"num_steps": min(num_steps, 200), "seed": seed, **modes},
        "snapshots": {"make_single": make_single, **length},
        "bad_input": {"make_single": make_single, **length, **modes},
        "options": length,
    }
    return CHECKS[name](make_vec, **arguments[name])


def factories(id: str, **kwargs: Any) -> tuple[MakeVec, MakeSingle]:
    """`make_vec` and `make_single` of a registered id; `SyncVectorEnv` where it has no vector entry point."""

    def make_single() -> gym.Env:
        return gym.make(id, disable_env_checker=True, **kwargs)

    with closing(make_single()) as env:
        native = env.spec is not None and env.spec.vector_entry_point is not None

    def make_vec(num_envs: int, **vector: Any) -> VectorEnv:
        if native:
            return gym.make_vec(id, num_envs=num_envs, **kwargs, **vector)
        return gym.make_vec(id, num_envs=num_envs, vectorization_mode="sync", vector_kwargs=vector, **kwargs)

    return make_vec, make_single


def check_id(
    id: str,
    *,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
    deterministic: bool = False,
    autoreset_modes: tuple[AutoresetMode, ...] = MODES,
    skip: tuple[str, ...] = (),
    **kwargs: Any,
) -> dict[str, str | None]:
    """`check_vector_env` for a registered id; `kwargs` go to the environment."""
    make_vec, make_single = factories(id, **kwargs)
    return check_vector_env(
        make_vec,
        make_single,
        num_steps=num_steps,
        seed=seed,
        deterministic=deterministic,
        autoreset_modes=autoreset_modes,
        skip=skip,
    )


CHECKS: dict[str, Callable[..., str | None]] = {
    "lanes": check_lanes,
    "num_envs": check_num_envs,
    "autoreset_modes": check_autoreset_modes,
    "determinism": check_determinism,
    "infos": check_infos,
    "partial_reset": check_partial_reset,
    "buffers": check_buffers,
    "snapshots": check_snapshots,
    "bad_input": check_bad_input,
    "options": check_options,
}
