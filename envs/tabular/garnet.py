"""Garnet: act in a randomly drawn Markov decision process without any structure.

Observation: Discrete(num_states): state; the episode starts in state 0.
Action:      Discrete(num_actions). Each pair of state and action leads to branching (3) different states, drawn at random;
             their probabilities are the lengths of the pieces when [0, 1] is cut at branching - 1 random points.
Reward:      drawn once for each pair of state and action, uniformly from [0, 1).
Terminates:  never.  Truncates: after max_steps (100); max_steps=None: continuing.
Source:      Archibald, McKinnon and Thomas, 1995, On the generation of Markov decision processes; as in Bhatnagar, Sutton,
             Ghavamzadeh and Lee, 2009, Natural actor-critic algorithms, with rewards of every pair.

Everything is a function of model_seed. A draw in which some state can't be reached from some other is thrown away, and the
next one taken. The info has `coverage`, the share of states visited in this episode.
"""

import math

import numpy as np

from explore_gym.envs.engine import vectorize
from explore_gym.envs.engine.env import is_integer
from explore_gym.envs.tabular.tabular import Tabular

MAX_DRAWS = 1000  # of one seed, until all states can be reached from each other


def draw_model(rng, num_states, num_actions, branching):
    """P (S, A, S) and R (S, A) of one draw."""
    P = np.zeros((num_states, num_actions, num_states))
    for s in range(num_states):
        for a in range(num_actions):
            successors = rng.choice(num_states, branching, replace=False)
            P[s, a, successors] = np.diff(np.sort(rng.random(branching - 1)), prepend=0.0, append=1.0)
    return P, rng.random((num_states, num_actions))


def is_communicating(P):
    """Whether every state can be reached from every other."""
    reachable = np.eye(len(P)) + P.sum(1) > 0.0
    for _ in range(math.ceil(math.log2(len(P)))):
        reachable = (reachable.astype(np.float32) @ reachable) > 0.0
    return bool(reachable.all())


class Garnet(Tabular):
    """A random MDP as a `Tabular` environment.

    Args:
        num_states: 2 to 1000.
        num_actions: 1 to 100.
        branching: states that each pair of state and action leads to, 1 to num_states.
        model_seed: draws the MDP; 0 to 2**32 - 1.
        max_steps: length of an episode; None: continuing.
    Raises:
        ValueError: an argument is outside the ranges above, or such MDPs (almost) never have all states within reach.
    """

    def __init__(
        self,
        num_states=50,
        num_actions=5,
        branching=3,
        model_seed=0,
        max_steps=100,
        render_mode=None,
        max_episode_steps=None,
    ):
        if not (is_integer(num_states) and 2 <= num_states <= 1000):
            raise ValueError(f"num_states must be an integer in [2, 1000], got {num_states!r}")
        if not (is_integer(num_actions) and 1 <= num_actions <= 100):
            raise ValueError(f"num_actions must be an integer in [1, 100], got {num_actions!r}")
        if not (is_integer(branching) and 1 <= branching <= num_states):
            raise ValueError(f"branching must be an integer in [1, num_states = {num_states}], got {branching!r}")
        if not (is_integer(model_seed) and 0 <= model_seed < 2**32):
            raise ValueError(f"model_seed must be an integer in [0, 2**32), got {model_seed!r}")
        rng = np.random.default_rng(model_seed)
        for _ in range(MAX_DRAWS):
            P, R = draw_model(rng, num_states, num_actions, branching)
            if is_communicating(P):
                break
        else:
            sizes = f"num_states={num_states}, num_actions={num_actions}, branching={branching}"
            raise ValueError(f"none of {MAX_DRAWS} draws had all states within reach: {sizes} have too few transitions")
        super().__init__(P, R, np.eye(num_states)[0], max_steps, render_mode, max_episode_steps)

    def draw(self, canvas, state):
        """States on a circle, visited ones brighter; lines to where the actions of the current one lead."""
        size, num_states = 12.0, len(self.R)
        canvas.size(12, 12)
        angles = [2.0 * math.pi * s / num_states for s in range(num_states)]
        places = [(size / 2 + 5.2 * math.sin(angle), size / 2 - 5.2 * math.cos(angle)) for angle in angles]
        radius = min(0.3, 12.0 / num_states)
        x, y = places[state.s]
        for s in np.flatnonzero(self.P[state.s].any(0)):
            canvas.line(x, y, *places[s], (110, 110, 120), 0.08)
        for s, (place_x, place_y) in enumerate(places):
            canvas.circle(place_x, place_y, radius, (90, 160, 220) if state.visited[s] else (70, 90, 110), "o")
        canvas.circle(x, y, 1.4 * radius, (235, 90, 70), "@")


GarnetVector = vectorize(Garnet)
