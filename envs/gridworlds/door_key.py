"""DoorKey: pick up the key, open the door and get to the goal behind it. Minigrid's environment, of any size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle; 6 done does nothing here.
Reward:      1 - 0.9 t / max_steps on reaching the goal at step t; otherwise 0.
Terminates:  on the goal.  Truncates: after max_steps (10 size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `DoorKeyEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
"""

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    DOOR,
    GREEN_GOAL,
    KEY,
    LOCKED,
    MAX_SIZE,
    YELLOW,
    GridEnv,
    act,
    arrive,
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
    vertical_wall,
)


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    room(state, 0, 0, size, size)
    state.grid[size - 2, size - 2] = GREEN_GOAL
    split = 2 + randint(state, size - 4)
    vertical_wall(state, 0, split, size)
    state.grid[1 + randint(state, size - 3), split] = cell(DOOR, YELLOW, LOCKED)
    place_agent(state, 0, 0, size, split)
    place(state, cell(KEY, YELLOW), 0, 0, size, split)
    finish(state, word)


@kernel
def step(params, state, action):
    return arrive(params, state, act(state, action))


class DoorKey(GridEnv):
    """Two rooms with a locked door between them; agent and key are at random places in the left one.

    Args:
        size: cells along each side, outer walls included, in [5, 255].
        max_steps: time limit in steps; None: 10 size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=8,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 5, MAX_SIZE)
        super().__init__(
            state=grid_state(size, size, agent_view_size),
            params={},
            missions=("use the key to open the door and then get to the goal",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=10 * size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


DoorKeyVector = vectorize(DoorKey)
