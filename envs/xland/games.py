"""XLandGames: generated tasks for several agents at once, with common, opposed or unrelated goals.

Observation: dict of "image", uint8 (agents, 5, 5, 2): kind and colour of the tiles in front of each agent; other agents are of
             kind 13 to 16 (looking away, to the right, this way, to the left) and of their team's colour; "direction",
             MultiDiscrete (agents,), 0 up, 1 right, 2 down, 3 left; "pocket", uint8 (agents, 2), kind and colour of the tile
             carried; "goal", uint8 (agents, 3, 3, 6), and "rules", uint8 (agents, rules, 7), as in XLand. trials > 1 adds
             "clock", float32 (agents, 2).
Action:      MultiDiscrete([6] * agents), each agent's: 0 forward, 1 turn right, 2 turn left, 3 pick up, 4 put down, 5 toggle.
Reward:      each agent's is 1 in every step in which its goal holds, otherwise 0; reward="once": 1 - 0.9 t / trial_steps when
             it is reached at step t of the trial, which ends then for all. The environment's reward is their mean, or that of
             agent reward_of; info["rewards"] has each agent's.
Terminates:  with trials > 1 at the end of the last trial, with reward="once" on a goal.  Truncates: after trial_steps
             (3 * size * size) if there is but one trial.
Info:        task, form, trial, trial_end, solved as in XLand; for each agent truth (agents, 3, 3), options (agents, 3),
             rewards, success (0 or 1), cell, visited and coverage, (agents,).
Teams:       relation="shared": one team with one goal, which holds for all when one of them fulfils it; "opposed": the others,
             another team, are to prevent the first agent's goal; "independent": each agent has a colour and a goal of its own.
             Goals may speak of other agents: whether one is near them, sees them, what they hold.
Moves:       of all agents at once, in no order: see `xland.world`.
Source:      Open-Ended Learning Team, "Open-Ended Learning Leads to Generally Capable Agents" (2021, arXiv:2107.12808), in the
             grid world of XLand-MiniGrid (Nikulin et al., 2023, arXiv:2312.12044).
"""

from explore_gym.envs.engine import vectorize
from explore_gym.envs.gridworlds.grid import check_integer
from explore_gym.envs.xland.tasks import ALL, RULE_KINDS
from explore_gym.envs.xland.world import MAX_AGENTS, TEAMS
from explore_gym.envs.xland.xland import XLandEnv, check_split, generator_params, inform, observe, reset, step


class XLandGames(XLandEnv):
    """Procedurally generated tasks for several agents.

    Args:
        agents: their number, 2 to 4.
        relation: of their goals: "shared", "opposed" or "independent".
        reward_of: the agent whose reward the environment returns; None: the mean over agents.
        rooms, size, rules, depth, prune, distractor_rules, distractor_objects, breadth: as in `XLand`.
        goal_kinds, rule_kinds, max_options, max_predicates, negation, tasks, abstract: as in `XLand`.
        trials, trial_steps, reward, goal_visible, rules_visible, open_doors: as in `XLandEnv`.
        agent_view_size, see_through_walls: as in `XLandEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        agents=2,
        relation="independent",
        reward_of=None,
        rooms=1,
        size=9,
        rules="small",
        depth=None,
        prune=None,
        distractor_rules=None,
        distractor_objects=None,
        breadth=None,
        goal_kinds=("hold", "near", "tile_near", "near_agent", "see_agent", "agent_holds"),
        rule_kinds=RULE_KINDS[:3],
        max_options=1,
        max_predicates=1,
        negation=0.0,
        tasks="all",
        abstract=False,
        trials=1,
        trial_steps=None,
        reward="hold",
        goal_visible=True,
        rules_visible=True,
        open_doors=False,
        agent_view_size=5,
        see_through_walls=True,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("agents", agents, 2, MAX_AGENTS)
        params, sizes = generator_params(
            agents, rules, depth, prune, breadth, distractor_rules, distractor_objects, goal_kinds, rule_kinds, max_options,
            max_predicates, negation, relation, tasks, abstract,
        )  # fmt: skip
        first, second, *_ = TEAMS
        teams = {"shared": (first,) * agents, "opposed": (first, *(second,) * (agents - 1)), "independent": TEAMS[:agents]}
        super().__init__(
            size=size,
            rooms=rooms,
            agents=agents,
            joint=True,
            teams=teams[relation],
            trials=trials,
            trial_steps=trial_steps,
            reward=reward,
            reward_of=reward_of,
            goal_visible=goal_visible,
            rules_visible=rules_visible,
            open_doors=open_doors,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            params=params,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
            **sizes,
        )
        if params["split"] != ALL:
            check_split(self, tasks)


XLandGamesVector = vectorize(XLandGames)
