"""GoToObject: go to the object that the mission names and say that you are done. Minigrid's environment, of any size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, walls or not;
             "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle, 6 done.
Reward:      1 - 0.9 t / max_steps on saying done, at step t, beside the place where the object was at first; otherwise 0.
Terminates:  on done; on toggle.  Truncates: after max_steps (5 size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `GoToObjectEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    COLOR_NAMES,
    DONE,
    KEY,
    MAX_SIZE,
    TOGGLE,
    GridEnv,
    act,
    begin,
    beside,
    cell,
    check_integer,
    choose,
    finish,
    grid_state,
    inform,
    observe,
    place,
    place_agent,
    room,
    time_reward,
)

NUM_THINGS = 18  # a key, a ball and a box of each colour
MISSIONS = tuple(f"go to the {color} {kind}" for color in COLOR_NAMES for kind in ("key", "ball", "box"))


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    room(state, 0, 0, size, size)
    target, taken = randint(state, params.num_objects), 0
    for i in range(params.num_objects):
        thing = choose(state, NUM_THINGS, taken)
        taken |= 1 << thing
        index = place(state, cell(KEY + thing % 3, thing // 3), 0, 0, size, size)
        if i == target:
            state.target_row, state.target_col, state.mission = index // size, index % size, thing
    place_agent(state, 0, 0, size, size)
    finish(state, word)


@kernel
def step(params, state, action):
    act(state, action)
    state.success = action == DONE and beside(state, state.target_row, state.target_col)
    return (time_reward(params, state) if state.success else 0.0), action in (TOGGLE, DONE)


class GoToObject(GridEnv):
    """A room with keys, balls and boxes, no two alike, of which one is asked for.

    Args:
        size: cells along each side, outer walls included, in [4, 255].
        num_objects: number of objects, in [1, 18], fewer than there are cells.
        max_steps: time limit in steps; None: 5 size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=6,
        num_objects=2,
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
        check_integer("num_objects", num_objects, 1, min(NUM_THINGS, (size - 2) ** 2 - 1))
        super().__init__(
            state=grid_state(size, size, agent_view_size, target_row=np.int32, target_col=np.int32),
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


GoToObjectVector = vectorize(GoToObject)
