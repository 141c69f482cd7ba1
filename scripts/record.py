"""Record a policy in an environment as a GIF and a PNG (the frame in the middle), both with few colours to keep them small.

Policies: random; optimal, a shortest path in a gridworld, elsewhere from the exact model that `to_tabular()` gives; planner,
XLand's; frontier, TopoNav's explorer; oracle, of TopoNav or HardMaze; driver, Driving's; or, with --run-dir, the one that a run
has trained.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from gymnasium.vector.utils import concatenate, create_empty_array
from PIL import Image

from explore_gym.envs.gridworlds.grid import DONE, GridEnv
from explore_gym.envs.navigation import explorers, maze_drivers
from explore_gym.envs.navigation.drivers import RuleDriver
from explore_gym.envs.navigation.driving import Driving
from explore_gym.envs.navigation.hard_maze import HardMaze
from explore_gym.envs.navigation.topo_nav import TopoNav
from explore_gym.envs.xland.planner import plan
from explore_gym.envs.xland.world import TURN_RIGHT
from explore_gym.envs.xland.xland import XLand
from explore_gym.scripts.play import RandomPolicy, TrainedPolicy, make_env

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
GAMMA = 0.99  # of the optimal policy: it prefers short ways
COLORS = 64


@dataclasses.dataclass
class Args:
    env: str = ""  # any registered id with an rgb_array picture; default: that of --run-dir
    env_kwargs: str = ""  # JSON object with the environment's arguments; default: those of --run-dir, or none
    policy: Literal["random", "optimal", "planner", "frontier", "oracle", "driver"] = "random"  # or --run-dir
    run_dir: Path | None = None  # of an agent's run: play what it has trained
    steps: int = 100  # episodes follow each other until there are so many
    seed: int = 0
    fps: int = 10
    scale: float = 0.5  # size of the pictures relative to the environment's own
    out: Path | None = None  # without ending; default: docs/pictures/<id without namespace>


class OptimalPolicy:
    """Greedy on the optimal values of the exact model, solved anew in each state that the last model lacks (a new layout)."""

    def __init__(self, env):
        self.env, self.actions = env.unwrapped, {}
        if not hasattr(self.env, "to_tabular"):
            raise ValueError(f"an optimal policy needs an environment with to_tabular(), got {env.spec.id}")
        unseen = ("rng", "t", "done", *self.env.untracked)
        self.fields = [name for name in self.env.state_dtype.names if name not in unseen]

    def __call__(self, obs, start=False, reward=0.0):
        key = self.key(self.env.get_state())
        if key not in self.actions:
            self.solve()
        return self.actions[key]

    def key(self, state):
        return b"".join(state[name].tobytes() for name in self.fields)

    def solve(self):
        model = self.env.to_tabular()
        q_values = model.R + GAMMA * model.P @ model.optimal_values(GAMMA)
        best = q_values.argmax(1) + self.env.action_space.start
        self.actions = {self.key(state): int(action) for state, action in zip(model.states, best)}


class ShortestPath:
    """The fewest actions to a reward, planned anew when they are used up (a new episode); where no reward is in reach, no-ops.

    Raises:
        ValueError: steps draw random numbers, or there are too many states.
    """

    def __init__(self, env):
        self.env, self.plan = env.unwrapped, []

    def __call__(self, obs, start=False, reward=0.0):
        if not self.plan:
            self.plan = self.env.shortest_path() or [DONE]
        return self.plan.pop(0)


class Planner:
    """Plans of `xland.planner`, made anew when they are used up (a new trial); where it finds none, turns.

    They lead to the goal, but not in the fewest steps.

    Raises:
        ValueError: the environment isn't XLand.
    """

    def __init__(self, env):
        self.env, self.actions = env.unwrapped, []
        if not isinstance(self.env, XLand):
            raise ValueError(f"the planner needs XLand for one agent, got {env.spec.id}")

    def __call__(self, obs, start=False, reward=0.0):
        if not self.actions:
            state = self.env.get_state()
            left = self.env.params["trial_steps"][0] - (state["t"] - state["trial_start"])
            self.actions = (plan(self.env) or [TURN_RIGHT])[:left]
        return self.actions.pop(0)


class Explorer:
    """One of `navigation.explorers`, which play batches: this object is its batch of one environment.

    Raises:
        ValueError: the environment isn't TopoNav.
    """

    num_envs = 1

    def __init__(self, env, cls):
        self.env, self.space = env.unwrapped, env.observation_space
        if not isinstance(self.env, TopoNav):
            raise ValueError(f"the frontier policy needs TopoNav, the oracle TopoNav or HardMaze, got {env.spec.id}")
        self.explorer = cls(self)

    def get_state(self):
        return self.env.get_state().reshape(1)

    def __call__(self, obs, start=False, reward=0.0):
        self.explorer.update(None, np.array([reward]))
        if start:
            self.explorer.reset(np.ones(1, bool))
        return self.explorer.act(concatenate(self.space, [obs], create_empty_array(self.space, 1)))[0]


class Driver:
    """Driving's scripted driver, which plays batches: this object is its batch of one environment.

    Raises:
        ValueError: the environment isn't Driving.
    """

    num_envs = 1

    def __init__(self, env):
        self.env = env.unwrapped
        if not isinstance(self.env, Driving):
            raise ValueError(f"the driver needs Driving, got {env.spec.id}")
        self.driver = RuleDriver(self)

    def get_state(self):
        return self.env.get_state().reshape(1)

    def __call__(self, obs, start=False, reward=0.0):
        return self.driver.act(obs)[0]


def record(env, policy, steps, seed):
    """The frames of that many steps, and those after resets: a list of uint8 (height, width, 3)."""
    obs, _ = env.reset(seed=seed)
    frames, start, reward = [env.render()], True, 0.0
    for _ in range(steps):
        obs, reward, terminated, truncated, info = env.step(policy(obs, start, reward))
        reward = info.get("rewards", reward)  # of each agent
        start = terminated or truncated
        frames.append(env.render())
        if start:
            obs, _ = env.reset()
            frames.append(env.render())
            reward = 0.0
    return frames


def save(frames, path, fps, scale):
    """Writes path.gif and path.png with one palette for all frames. Returns the two paths."""
    size = [max(1, round(side * scale)) for side in frames[0].shape[1::-1]]
    images = [Image.fromarray(frame).resize(size, Image.Resampling.BOX) for frame in frames]
    palette = shared_palette(np.concatenate([np.asarray(image) for image in images[:: -(-len(images) // 16)]]))
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    gif, png = path.with_name(path.name + ".gif"), path.with_name(path.name + ".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(gif, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, optimize=True)
    images[len(images) // 2].save(png, optimize=True)
    return gif, png


def shared_palette(sample):
    """An image with COLORS colours of a uint8 (..., 3) sample: the commonest as they are, others for what is small."""
    codes, counts = np.unique(sample.reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1]), return_counts=True)
    common = codes[np.argsort(-counts, kind="stable")[: COLORS // 2], None] >> np.array([16, 8, 0]) & 255
    others = Image.fromarray(sample).quantize(COLORS - len(common), Image.Quantize.MAXCOVERAGE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette((common.ravel().tolist() + others)[: 3 * COLORS])
    return palette


def make_policy(name, env, seed):
    """The policy of that name.

    Raises:
        ValueError: there is none for this environment.
    """
    if name == "random":
        return RandomPolicy(env, seed)
    if name == "planner":
        return Planner(env)
    if name == "driver":
        return Driver(env)
    if name == "frontier":
        return Explorer(env, explorers.Frontier)
    if name == "oracle":
        return maze_drivers.Oracle(env) if isinstance(env.unwrapped, HardMaze) else Explorer(env, explorers.Oracle)
    return ShortestPath(env) if isinstance(env.unwrapped, GridEnv) else OptimalPolicy(env)


def run(args):
    """Records as the arguments say and returns the paths of the GIF and the PNG.

    Raises:
        ValueError: an argument is out of range, there is no such environment or run, or no such policy for it.
    """
    for name in ("steps", "fps", "scale"):
        if not getattr(args, name) > 0:
            raise ValueError(f"{name} must be positive, got {getattr(args, name)}")
    env_id, env_kwargs = args.env, args.env_kwargs
    if args.run_dir is not None:
        config = args.run_dir / "config.json"
        if not config.is_file():
            raise ValueError(f"run_dir must hold a run, but there is no {config}")
        trained = json.loads(config.read_text())["args"]
        env_id, env_kwargs = env_id or trained["env"], env_kwargs or trained["env_kwargs"]
    if not env_id:
        raise ValueError("which environment? pass --env or --run-dir")
    env = make_env(env_id, env_kwargs or "{}")
    policy = TrainedPolicy(env, args.run_dir) if args.run_dir is not None else make_policy(args.policy, env, args.seed)
    out = args.out or PICTURES / env_id.split("/")[-1]
    return save(record(env, policy, args.steps, args.seed), out, args.fps, args.scale)


def main():
    try:
        for path in run(tyro.cli(Args, description=__doc__)):
            print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
