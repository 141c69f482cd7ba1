"""XLandCaptureTheFlag: each team wants the other's flag on its own floor, where its own flag must be as well.

Observation: as in XLandGames, without rules: "image", uint8 (agents, 7, 7, 2), walls hide what is behind; "direction",
             MultiDiscrete (agents,), "pocket", uint8 (agents, 2), "goal", uint8 (agents, 3, 3, 6).
Action:      MultiDiscrete([6] * agents), each agent's: 0 forward, 1 turn right, 2 turn left, 3 pick up, 4 put down, 5 toggle.
Reward:      1 for each agent of a team in every step in which both flags lie on the team's floor, otherwise 0. The
             environment's reward is the mean over agents, or that of agent reward_of; info["rewards"] has each agent's.
Terminates:  never.  Truncates: after trial_steps (500).
Info:        as in XLandGames.
Layout:      two rooms with an open door between them. In the left one lies a red patch of 3x3 floors with the red flag (a
             pyramid) in its middle, in the right one a blue patch with the blue flag. Whoever wants a flag picks it up; it is
             safe from others only in a pocket.
Teams:       the first half of the agents (2 or 4) is red and starts in the left room, the other blue, in the right one.
Source:      a hand-made task of XLand (Open-Ended Learning Team, 2021, arXiv:2107.12808), in the grid world of XLand-MiniGrid.
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import check_integer
from explore_gym.envs.xland.logic import ON
from explore_gym.envs.xland.named import NamedGame, clear_goals, enter, set_goal
from explore_gym.envs.xland.world import BLUE, FLOOR, PLAIN_FLOOR, PYRAMID, RED, build, cover, place_agent, tile
from explore_gym.envs.xland.xland import begin, inform, observe, step


@kernel
def reset(params, state):
    begin(params, state)
    clear_goals(state)
    build(params, state)
    height, width = state.grid.shape
    half = width // 2
    room = half - 1  # columns of the left room; the right one may have one more
    patch(state, 1 + randint(state, height - 4), 1 + randint(state, room - 2), RED)
    patch(state, 1 + randint(state, height - 4), half + 1 + randint(state, width - half - 4), BLUE)
    for i in range(state.row.shape[0]):
        own = np.int64(state.team[i])
        set_goal(state, i, 0, 0, ON, False, tile(PYRAMID, RED + BLUE - own), tile(FLOOR, own))
        set_goal(state, i, 0, 1, ON, False, tile(PYRAMID, own), tile(FLOOR, own))
        place_agent(state, i, 1, 1 if own == RED else half + 1, height - 2, room)
    enter(params, state)


@kernel
def patch(state, row, col, color):
    """3x3 floors of a colour with the flag in the middle."""
    for r in range(row, row + 3):
        for c in range(col, col + 3):
            state.grid[r, c] = cover(PLAIN_FLOOR, tile(FLOOR, color))
    state.grid[row + 1, col + 1] = cover(np.int64(state.grid[row + 1, col + 1]), tile(PYRAMID, color))


class XLandCaptureTheFlag(NamedGame):
    """Capture the flag in two rooms.

    Args:
        agents: their number, 2 or 4.
        size: cells along each side, outer walls included, at least 11.
        trial_steps: time limit in steps.
        agent_view_size, see_through_walls, reward_of: as in `XLandEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        agents=2,
        size=13,
        trial_steps=500,
        agent_view_size=7,
        see_through_walls=False,
        reward_of=None,
        render_mode=None,
        max_episode_steps=None,
    ):
        if agents not in (2, 4):
            raise ValueError(f"agents must be 2 or 4, got {agents!r}")
        check_integer("size", size, 11, 255)
        super().__init__(
            teams=(RED,) * (agents // 2) + (BLUE,) * (agents // 2),
            size=size,
            rooms=2,
            max_objects=2,
            trial_steps=trial_steps,
            open_doors=True,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            reward_of=reward_of,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


XLandCaptureTheFlagVector = vectorize(XLandCaptureTheFlag)
