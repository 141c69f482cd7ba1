"""Play an environment with the keyboard.

Keys: an environment's class may name them in its attribute `keys` (pygame's name of the key -> action). Minigrid's own
environments: left, right, up = forward, page up = pick up, page down = drop, space = toggle, return = done. All others:
0 to 9, then a to z, for the actions in order. Backspace starts a new episode, escape leaves.

Where several agents act at once (XLand's games), the keys move --agent; the others act at random or as --run-dir has trained.
"""

import dataclasses
import json
import string
import sys
import textwrap
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro
from gymnasium.vector.utils import concatenate, create_empty_array

import explore_gym  # noqa: F401  registers the ids

MINIGRID_KEYS = {"left": 0, "right": 1, "up": 2, "page up": 3, "page down": 4, "space": 5, "return": 6}
DIGITS_AND_LETTERS = string.digits + string.ascii_lowercase
NEW_EPISODE, LEAVE = "backspace", "escape"
SIDE, LINE, MARGIN = 640, 22, 8  # pixels: side of the square for the picture, height of a line of text, border
COLUMNS = 80  # characters in a line of text


@dataclasses.dataclass
class Args:
    env: str = "Explore/FourRooms-v0"  # any id with Discrete actions, one or one for each agent, and an rgb_array picture
    env_kwargs: str = "{}"  # JSON object with the environment's arguments
    agent: int = 0  # where several act: the one that the keys move
    run_dir: Path | None = None  # of an agent's run that plays the others; default: they act at random
    seed: int = 0
    fps: int = 30  # redraws of the window per second


def make_env(env_id, env_kwargs):
    """The environment with pictures as arrays.

    Args:
        env_kwargs: its arguments, as the text of a JSON object.

    Raises:
        ValueError: env_kwargs is no JSON object, the id is unknown, or the environment refuses its arguments.
    """
    try:
        kwargs = json.loads(env_kwargs)
    except json.JSONDecodeError:
        kwargs = None
    if not isinstance(kwargs, dict):
        raise ValueError(f"env_kwargs must be a JSON object such as '{{\"size\": 9}}', got {env_kwargs!r}")
    try:
        return gym.make(env_id, render_mode="rgb_array", **kwargs)
    except (gym.error.Error, ModuleNotFoundError, TypeError, ValueError) as error:
        raise ValueError(f"cannot make {env_id!r} with kwargs {kwargs}: {error}") from error


class RandomPolicy:
    """Uniformly random actions."""

    def __init__(self, env, seed):
        self.space = env.action_space
        self.space.seed(seed)

    def __call__(self, obs, start=False, reward=0.0):
        return self.space.sample()


class TrainedPolicy:
    """The policy of a run directory, which takes a batch of observations as a vector environment gives them.

    A call has an observation, whether it is an episode's first, and the reward of the action before. Where several agents
    act at once, each acts on its own part of the observation and gets a reward of its own, as in `AgentLanes`.
    """

    def __init__(self, env, run_dir):
        from explore_gym.agents.common import load_policy

        self.space, self.policy, self.joint = env.observation_space, load_policy(run_dir), is_joint(env)
        self.count = len(env.action_space.nvec) if self.joint else 1

    def __call__(self, obs, start=False, reward=0.0):
        batch = obs if self.joint else concatenate(self.space, [obs], create_empty_array(self.space, 1))
        actions = self.policy(batch, np.full(self.count, start), np.full(self.count, reward, np.float32))
        return np.array(actions) if self.joint else actions[0]


def is_joint(env):
    """Whether an action has a part for each of several agents, and the info their rewards, as in XLand's games."""
    return getattr(env.unwrapped, "num_agents", 1) > 1


def keys_of(env, agent=0):
    """Name of the key -> action, of that agent where there are several.

    Raises:
        ValueError: the actions aren't Discrete, or too many for the keyboard, or there is no such agent.
    """
    space = env.action_space
    if is_joint(env):
        if not 0 <= agent < len(space.nvec):
            raise ValueError(f"agent must lie in [0, {len(space.nvec)}), got {agent}")
        space = gym.spaces.Discrete(int(space.nvec[agent]), start=int(space.start[agent]))
    if not isinstance(space, gym.spaces.Discrete):
        raise ValueError(f"the keyboard needs a Discrete action space, got {space}")
    if getattr(env.unwrapped, "keys", None):
        return env.unwrapped.keys
    if env.spec.id.startswith(("MiniGrid-", "BabyAI-")):
        return MINIGRID_KEYS
    if space.n > len(DIGITS_AND_LETTERS):
        raise ValueError(f"the keyboard has keys for {len(DIGITS_AND_LETTERS)} actions, got {space}")
    return {key: int(space.start) + i for i, key in enumerate(DIGITS_AND_LETTERS[: space.n])}


class Game:
    """An environment under the keyboard: what a key does to it, and the lines of text that tell the player how it goes.

    Args:
        agent: where several act at once, the one that the keys move.
        others: a policy for all of them, of which the others take their actions; None: at random.
    """

    def __init__(self, env, seed, agent=0, others=None):
        self.env, self.keys, self.agent = env, keys_of(env, agent), agent
        self.others = others or RandomPolicy(env, seed)
        self.new_episode(seed)

    def new_episode(self, seed=None):
        self.obs, self.info = self.env.reset(seed=seed)
        self.steps, self.reward, self.episode_return = 0, 0.0, 0.0
        self.rewards = 0.0  # of all agents, where there are several
        self.end = ""

    def press(self, key):
        if key == NEW_EPISODE or (self.end and key in self.keys):
            self.new_episode()
        elif key in self.keys:
            self.obs, reward, terminated, truncated, self.info = self.env.step(self.action(self.keys[key]))
            self.steps += 1
            self.rewards = self.info.get("rewards", reward)
            self.reward = self.rewards[self.agent] if is_joint(self.env) else reward
            self.episode_return += self.reward
            self.end = "terminated" if terminated else "truncated" if truncated else ""

    def action(self, own):
        if not is_joint(self.env):
            return own
        actions = self.others(self.obs, self.steps == 0, self.rewards)
        actions[self.agent] = own
        return actions

    def lines(self):
        metrics = "   ".join(f"{key} {short(value)}" for key, value in self.info.items())
        keys = "   ".join(f"{key}: {action}" for key, action in self.keys.items())
        end = f"   {self.end}: any action key goes on" if self.end else ""
        who = f"agent {self.agent}   " if is_joint(self.env) else ""
        return [
            f"{who}step {self.steps}   reward {self.reward:.4g}   return {self.episode_return:.4g}{end}",
            *textwrap.wrap(metrics, COLUMNS),
            *textwrap.wrap(keys, COLUMNS),
            f"{NEW_EPISODE}: new episode   {LEAVE}: leave",
        ]


def short(value):
    """A metric in a few characters."""
    return np.array2string(np.asarray(value), precision=3, threshold=8, edgeitems=3, separator=" ").replace("\n", "")


def play(env, seed=0, fps=30, agent=0, others=None):
    """Opens a window and plays until it is closed, agent and others as in `Game`. Returns the `Game` as it was left."""
    import pygame

    game = Game(env, seed, agent, others)
    pygame.init()
    try:
        pygame.display.set_caption(env.spec.id)
        pygame.key.set_repeat(300, 100)  # ms
        window, font, clock, shown = None, pygame.font.Font(None, LINE), pygame.time.Clock(), None
        while True:
            for event in pygame.event.get():
                key = pygame.key.name(event.key) if event.type == pygame.KEYDOWN else ""
                if event.type == pygame.QUIT or key == LEAVE:
                    return game
                if key:
                    game.press(key)
                    shown = None
            if shown is None:
                shown = picture(pygame, env.render(), game.lines(), font)
                if window is None or window.get_size() != shown.get_size():
                    window = pygame.display.set_mode(shown.get_size())
                window.blit(shown, (0, 0))
                pygame.display.flip()
            clock.tick(fps)
    finally:
        pygame.quit()


def picture(pygame, frame, lines, font):
    """The window's content: the frame, enlarged or reduced to fit, above the lines."""
    height, width = frame.shape[:2]
    factor = SIDE / max(height, width)
    size = round(width * factor), round(height * factor)
    texts = [font.render(line, True, (30, 30, 30)) for line in lines]
    surface = pygame.Surface((SIDE, size[1] + 2 * MARGIN + LINE * len(lines)))
    surface.fill((245, 245, 240))
    image = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
    surface.blit(pygame.transform.scale(image, size), ((SIDE - size[0]) // 2, 0))
    for i, text in enumerate(texts):
        surface.blit(text, (MARGIN, size[1] + MARGIN + LINE * i))
    return surface


def main():
    args = tyro.cli(Args, description=__doc__)
    try:
        env = make_env(args.env, args.env_kwargs)
        others = None if args.run_dir is None else TrainedPolicy(env, args.run_dir)
        play(env, args.seed, args.fps, args.agent, others)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
