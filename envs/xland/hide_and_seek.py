"""XLandHideAndSeek: seekers want to see the hiders, who want not to be seen.

Observation: as in XLandGames, without rules: "image", uint8 (agents, 7, 7, 2), walls and closed doors hide what is behind;
             "direction", MultiDiscrete (agents,), "pocket", uint8 (agents, 2), "goal", uint8 (agents, 3, 3, 6).
Action:      MultiDiscrete([6] * agents), each agent's: 0 forward, 1 turn right, 2 turn left, 3 pick up, 4 put down, 5 toggle.
Reward:      a seeker's is 1 in every step in which it sees a hider, a hider's 1 in every step in which no seeker sees it,
             otherwise 0. The environment's reward is their mean, or that of agent reward_of; info["rewards"] has each agent's.
Terminates:  never.  Truncates: after trial_steps (300).
Info:        as in XLandGames.
Layout:      four rooms with doors, which can be opened and closed, and boxes to carry about (squares); one can see over them.
Teams:       the first seekers (1) of the agents (2) are red, the others, who hide, blue.
Source:      a hand-made task of XLand (Open-Ended Learning Team, 2021, arXiv:2107.12808), in the grid world of XLand-MiniGrid.
"""

from explore_gym.envs.engine import kernel, vectorize
from explore_gym.envs.gridworlds.grid import check_integer
from explore_gym.envs.xland.logic import SEE, SELF, team
from explore_gym.envs.xland.named import NamedGame, clear_goals, set_goal, settle
from explore_gym.envs.xland.world import BLUE, MAX_AGENTS, RED, SQUARE, WHITE, build, place, tile
from explore_gym.envs.xland.xland import begin, inform, observe, step

BOX = tile(SQUARE, WHITE)
NUM_BOXES = 4


@kernel
def reset(params, state):
    begin(params, state)
    clear_goals(state)
    for i in range(state.row.shape[0]):
        if state.team[i] == RED:
            set_goal(state, i, 0, 0, SEE, False, SELF, team(BLUE))
        else:
            set_goal(state, i, 0, 0, SEE, True, team(RED), SELF)
    build(params, state)
    for _ in range(NUM_BOXES):
        place(state, BOX, 1, 1, state.grid.shape[0] - 2, state.grid.shape[1] - 2)
    settle(params, state)


class XLandHideAndSeek(NamedGame):
    """Hide and seek in four rooms.

    Args:
        agents: their number, 2 to 4; seekers: how many of them seek.
        size: cells along each side, outer walls included.
        trial_steps: time limit in steps.
        agent_view_size, see_through_walls, reward_of: as in `XLandEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        agents=2,
        seekers=1,
        size=13,
        trial_steps=300,
        agent_view_size=7,
        see_through_walls=False,
        reward_of=None,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("agents", agents, 2, MAX_AGENTS)
        check_integer("seekers", seekers, 1, agents - 1)
        super().__init__(
            teams=(RED,) * seekers + (BLUE,) * (agents - seekers),
            size=size,
            rooms=4,
            max_objects=NUM_BOXES,
            trial_steps=trial_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            reward_of=reward_of,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


XLandHideAndSeekVector = vectorize(XLandHideAndSeek)
