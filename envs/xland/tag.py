"""XLandTag: chasers want to be beside the runners, who want to have no chaser beside them.

Observation: as in XLandGames, without rules: "image", uint8 (agents, 7, 7, 2), walls hide what is behind; "direction",
             MultiDiscrete (agents,), "pocket", uint8 (agents, 2), "goal", uint8 (agents, 3, 3, 6).
Action:      MultiDiscrete([6] * agents), each agent's: 0 forward, 1 turn right, 2 turn left, 3 pick up, 4 put down, 5 toggle.
Reward:      a chaser's is 1 in every step in which a runner stands beside it, a runner's 1 in every step in which no chaser
             stands beside it, otherwise 0. The environment's reward is their mean, or that of agent reward_of;
             info["rewards"] has each agent's.
Terminates:  never.  Truncates: after trial_steps (300).
Info:        as in XLandGames.
Layout:      four rooms whose doors stand open, but can be closed.
Teams:       the first chasers (1) of the agents (2) are red, the others, who run, blue.
Source:      a hand-made task of XLand (Open-Ended Learning Team, 2021, arXiv:2107.12808), in the grid world of XLand-MiniGrid.
"""

from explore_gym.envs.engine import kernel, vectorize
from explore_gym.envs.gridworlds.grid import check_integer
from explore_gym.envs.xland.logic import NEAR, SELF, team
from explore_gym.envs.xland.named import NamedGame, clear_goals, set_goal, settle
from explore_gym.envs.xland.world import BLUE, MAX_AGENTS, RED, build
from explore_gym.envs.xland.xland import begin, inform, observe, step


@kernel
def reset(params, state):
    begin(params, state)
    clear_goals(state)
    for i in range(state.row.shape[0]):
        chases = state.team[i] == RED
        set_goal(state, i, 0, 0, NEAR, not chases, SELF, team(BLUE if chases else RED))
    build(params, state)
    settle(params, state)


class XLandTag(NamedGame):
    """Tag in four rooms.

    Args:
        agents: their number, 2 to 4; chasers: how many of them chase.
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
        chasers=1,
        size=13,
        trial_steps=300,
        agent_view_size=7,
        see_through_walls=False,
        reward_of=None,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("agents", agents, 2, MAX_AGENTS)
        check_integer("chasers", chasers, 1, agents - 1)
        super().__init__(
            teams=(RED,) * chasers + (BLUE,) * (agents - chasers),
            size=size,
            rooms=4,
            max_objects=1,
            trial_steps=trial_steps,
            open_doors=True,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            reward_of=reward_of,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


XLandTagVector = vectorize(XLandTag)
