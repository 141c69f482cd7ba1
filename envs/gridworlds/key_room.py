"""KeyRoom: fetch the key, open the locked room within the room and step on the goal; what happens is said in messages.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence; "message", Discrete, the number of
             the message below. position=True adds "position", MultiDiscrete (column, row); step_counter=True "step",
             float32 (1,), t / max_steps; noise_channels=k "noise", float32 (k,), uniform random numbers, new in every step.
             observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle (open or close the door ahead, if
             it is locked with the key); 6 done does nothing here.
Reward:      1 on reaching the goal; otherwise 0.
Terminates:  on the goal.  Truncates: after max_steps (200).
Info:        cell (row * size + col), visited (distinct cells in this episode), first_visit (step that reached this cell first),
             coverage (visited / cells one can stand on), success, context (index of the layout, -1 if it is drawn afresh),
             message (its number).
Messages:    0 none; 1 the key is ahead; 2 the key was picked up; 3 it was put down; 4 the door is locked (walked into or
             toggled without the key); 5 the door opens; 6 it closes; 7 walked into something else. With distractor_messages=k
             half of the steps that have none of these have one of 8..k+7 at random, which say nothing.
Layout:      a locked room whose walls are 4 or 5 cells long (for size=10) stands somewhere in the outer one and touches no
             outer wall. Its place and size, the door in its wall, the goal in it, key and agent outside of it are random.
             num_monsters=k puts k blue balls outside, each of which moves to a random side in every step if it is free. They
             are in the way, do nothing, and can't be picked up.
Contexts:    num_contexts=K draws each episode from K fixed ones, all of the above included: episode k of layout_seed.
Source:      Henaff et al., "A Study of Global and Episodic Bonuses for Exploration in Contextual MDPs" (2023,
             arXiv:2306.03236), KeyRoom-S10, which is MiniHack's; here in Minigrid's world.
"""

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import bernoulli, kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    BALL,
    BLUE,
    DOOR,
    EAST,
    EMPTY,
    FORWARD,
    GOAL,
    GREEN_GOAL,
    GREY_WALL,
    KEY,
    LOCKED,
    MAX_SIZE,
    NORTH,
    OPEN,
    PICKUP,
    SOUTH,
    TOGGLE,
    UNSEEN,
    WEST,
    YELLOW,
    GridEnv,
    act,
    begin,
    cell,
    check_integer,
    fill,
    finish,
    front,
    grid_state,
    is_free,
    observe,
    place,
    place_agent,
    room,
)
from explore_gym.envs.gridworlds.grid import inform as inform_grid

MESSAGES = (
    "",
    "There is a key ahead.",
    "You pick up the key.",
    "You put down the key.",
    "This door is locked.",
    "The door opens.",
    "The door closes.",
    "You bump into something.",
)
NOTHING, KEY_AHEAD, KEY_TAKEN, KEY_DROPPED, DOOR_LOCKED, DOOR_OPENS, DOOR_CLOSES, BUMP = range(8)
DISTRACTOR_RATE = 0.5  # of the steps without a message
YELLOW_KEY = KEY | YELLOW << 4
MONSTER = BALL | BLUE << 4
SMALLEST = 4  # cells along a side of the smallest inner room, walls included


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    room(state, 0, 0, size, size)
    height, width = SMALLEST + randint(state, params.room_sizes), SMALLEST + randint(state, params.room_sizes)
    top, left = 2 + randint(state, size - 3 - height), 2 + randint(state, size - 3 - width)
    fill(state, top, left, height, width, GREY_WALL)
    place(state, YELLOW_KEY, 1, 1, size - 2, size - 2)
    place_agent(state, 1, 1, size - 2, size - 2)
    for i in range(params.num_monsters):
        index = place(state, MONSTER, 1, 1, size - 2, size - 2)
        state.monsters[i, 0], state.monsters[i, 1] = index // size, index % size
    fill(state, top + 1, left + 1, height - 2, width - 2, EMPTY)
    side = randint(state, 4)
    if side in (EAST, WEST):
        row, col = top + 1 + randint(state, height - 2), left + (width - 1 if side == EAST else 0)
    else:
        row, col = top + (height - 1 if side == SOUTH else 0), left + 1 + randint(state, width - 2)
    state.grid[row, col] = cell(DOOR, YELLOW, LOCKED)
    place(state, GREEN_GOAL, top + 1, left + 1, height - 2, width - 2)
    state.message = KEY_AHEAD if front(state)[2] == YELLOW_KEY else NOTHING
    finish(state, word)


@kernel
def step(params, state, action):
    row, col, ahead = front(state)
    held = state.carrying
    entered = UNSEEN
    if not (action == PICKUP and ahead == MONSTER):
        entered = act(state, action)
    state.message = said(state, action, entered, held, row, col, ahead)
    if state.message == NOTHING and params.distractors > 0 and bernoulli(state, DISTRACTOR_RATE):
        state.message = BUMP + 1 + randint(state, params.distractors)
    move_monsters(params, state)
    state.success = entered == GOAL
    return (1.0 if state.success else 0.0), state.success


@kernel
def said(state, action, entered, held, row, col, ahead):
    """The number of the message about an action, given what was held and what was on the cell (row, col) ahead before."""
    if state.carrying != held:
        return KEY_TAKEN if held == EMPTY else KEY_DROPPED
    kind, door = ahead & 15, ahead >> 7 & 3
    if kind == DOOR and (action == TOGGLE or (action == FORWARD and entered == UNSEEN and door == LOCKED)):
        if ahead == state.grid[row, col]:
            return DOOR_LOCKED
        return DOOR_CLOSES if door == OPEN else DOOR_OPENS
    if action == FORWARD and entered == UNSEEN:
        return BUMP
    return KEY_AHEAD if front(state)[2] == YELLOW_KEY else NOTHING


@kernel
def move_monsters(params, state):
    """Each monster tries a step to a random side."""
    for i in range(params.num_monsters):
        side = randint(state, 4)
        row, col = np.int64(state.monsters[i, 0]), np.int64(state.monsters[i, 1])
        next_row = row + np.int64(side == SOUTH) - np.int64(side == NORTH)
        next_col = col + np.int64(side == EAST) - np.int64(side == WEST)
        if is_free(state, next_row, next_col):
            state.grid[row, col] = EMPTY
            state.grid[next_row, next_col] = MONSTER
            state.monsters[i, 0], state.monsters[i, 1] = next_row, next_col
            state.stale = True


@kernel
def observe_message(params, state, obs):
    obs.message = state.message


@kernel
def inform(params, state, info):
    inform_grid(params, state, info)
    info.message = state.message


class KeyRoom(GridEnv):
    """A locked room within a room, its key outside, the goal inside.

    Attributes:
        messages: the sentence behind each message's number.

    Args:
        size: cells along each side, outer walls included, in [8, 255].
        distractor_messages: number of further messages that say nothing, at most 1000.
        num_monsters: number of moving balls, at most 16.
        max_steps: time limit in steps.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.
        position, step_counter, noise_channels: further parts of the dict observation, as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=10,
        distractor_messages=0,
        num_monsters=0,
        max_steps=200,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        position=False,
        step_counter=False,
        noise_channels=0,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 8, MAX_SIZE)
        check_integer("distractor_messages", distractor_messages, 0, 1000)
        check_integer("num_monsters", num_monsters, 0, 16)
        self.messages = (*MESSAGES, *(f"You hear a noise, the {i + 1}. of its kind." for i in range(distractor_messages)))
        message = spaces.Discrete(len(self.messages)), observe_message
        super().__init__(
            state=grid_state(size, size, agent_view_size, message=np.int32, monsters=(np.int32, (max(num_monsters, 1), 2))),
            params=dict(room_sizes=max(1, size // 2 - 3), distractors=distractor_messages, num_monsters=num_monsters),
            missions=("use the key to open the door and then get to the goal",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            position=position,
            step_counter=step_counter,
            noise_channels=noise_channels,
            components=dict(message=message) if observation == "dict" else None,
            info=dict(message=int),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


KeyRoomVector = vectorize(KeyRoom)
