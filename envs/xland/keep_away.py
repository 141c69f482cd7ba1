"""XLandKeepAway: keepers want the ball to be where no taker is beside it; takers want to be beside it, or to have it.

Observation: as in XLandGames, without rules: "image", uint8 (agents, 7, 7, 2); "direction", MultiDiscrete (agents,), "pocket",
             uint8 (agents, 2), "goal", uint8 (agents, 3, 3, 6).
Action:      MultiDiscrete([6] * agents), each agent's: 0 forward, 1 turn right, 2 turn left, 3 pick up, 4 put down, 5 toggle.
Reward:      a taker's is 1 in every step in which it stands beside the ball, beside another agent that carries it, or carries
             it itself; a keeper's 1 in every step in which none of that is true of any taker; otherwise 0. The environment's
             reward is their mean, or that of agent reward_of; info["rewards"] has each agent's.
Terminates:  never.  Truncates: after trial_steps (300).
Info:        as in XLandGames.
Layout:      one room and a yellow ball. Keepers pass it by putting it down for another one to pick up.
Teams:       the first keepers (2) of the agents (3) are red, the others, who take, blue.
Source:      after the keep-away tasks of the Open-Ended Learning Team's XLand (2021, arXiv:2107.12808), in the grid world of
             XLand-MiniGrid.
"""

from explore_gym.envs.engine import kernel, vectorize
from explore_gym.envs.gridworlds.grid import check_integer
from explore_gym.envs.xland.logic import HOLD, NEAR, SELF, team
from explore_gym.envs.xland.named import NamedGame, clear_goals, set_goal, settle
from explore_gym.envs.xland.world import BALL, BLUE, MAX_AGENTS, RED, YELLOW, build, place, tile
from explore_gym.envs.xland.xland import begin, inform, observe, step

THE_BALL = tile(BALL, YELLOW)


@kernel
def reset(params, state):
    begin(params, state)
    clear_goals(state)
    for i in range(state.row.shape[0]):
        if state.team[i] == BLUE:
            set_goal(state, i, 0, 0, NEAR, False, SELF, THE_BALL)
            set_goal(state, i, 1, 0, HOLD, False, SELF, THE_BALL)
        else:
            set_goal(state, i, 0, 0, NEAR, True, team(BLUE), THE_BALL)
            set_goal(state, i, 0, 1, HOLD, True, team(BLUE), THE_BALL)
    build(params, state)
    place(state, THE_BALL, 1, 1, state.grid.shape[0] - 2, state.grid.shape[1] - 2)
    settle(params, state)


class XLandKeepAway(NamedGame):
    """Keep away in one room.

    Args:
        agents: their number, 2 to 4; keepers: how many of them keep.
        size: cells along each side, outer walls included.
        trial_steps: time limit in steps.
        agent_view_size, see_through_walls, reward_of: as in `XLandEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        agents=3,
        keepers=2,
        size=9,
        trial_steps=300,
        agent_view_size=7,
        see_through_walls=True,
        reward_of=None,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("agents", agents, 2, MAX_AGENTS)
        check_integer("keepers", keepers, 1, agents - 1)
        super().__init__(
            teams=(RED,) * keepers + (BLUE,) * (agents - keepers),
            size=size,
            rooms=1,
            max_objects=1,
            trial_steps=trial_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            reward_of=reward_of,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


XLandKeepAwayVector = vectorize(XLandKeepAway)
