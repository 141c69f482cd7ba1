"""Fetch: pick up the object that the mission names, and no other. Minigrid's environment, of any size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, walls or not;
             "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up; 4 drop, 5 toggle and 6 done do nothing here.
Reward:      1 - 0.9 t / max_steps on picking up such an object at step t; otherwise 0.
Terminates:  on picking up anything.  Truncates: after max_steps (5 size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells without an object), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `FetchEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    COLOR_NAMES,
    EMPTY,
    KEY,
    MAX_SIZE,
    GridEnv,
    act,
    begin,
    cell,
    check_integer,
    finish,
    grid_state,
    inform,
    observe,
    place,
    place_agent,
    room,
    time_reward,
)

SYNTAX = ("get a", "go get a", "fetch a", "go fetch a", "you must fetch a")
MISSIONS = tuple(f"{syntax} {color} {kind}" for syntax in SYNTAX for color in COLOR_NAMES for kind in ("key", "ball"))


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    room(state, 0, 0, size, size)
    target = randint(state, params.num_objects)
    for i in range(params.num_objects):
        kind, color = randint(state, 2), randint(state, 6)
        place(state, cell(KEY + kind, color), 0, 0, size, size)
        if i == target:
            state.target = cell(KEY + kind, color)
            state.mission = (randint(state, 5) * 6 + color) * 2 + kind
    place_agent(state, 0, 0, size, size)
    finish(state, word)
    state.walkable -= params.num_objects  # they stay where they are: picking one up ends the episode


@kernel
def step(params, state, action):
    act(state, action)
    state.success = state.carrying == state.target
    return (time_reward(params, state) if state.success else 0.0), state.carrying != EMPTY


class Fetch(GridEnv):
    """A room with keys and balls of random colours, of which one is asked for.

    Args:
        size: cells along each side, outer walls included, in [4, 255].
        num_objects: number of objects, in [1, (size - 2)**2 - 1]; two may be alike.
        max_steps: time limit in steps; None: 5 size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=8,
        num_objects=3,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=True,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 4, MAX_SIZE)
        check_integer("num_objects", num_objects, 1, (size - 2) ** 2 - 1)
        super().__init__(
            state=grid_state(size, size, agent_view_size, target=np.uint16),
            params=dict(num_objects=num_objects),
            missions=MISSIONS,
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=5 * size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


FetchVector = vectorize(Fetch)
