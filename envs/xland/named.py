"""What the named tasks of XLand for several agents have in common: hand-made goals and layouts, a reward in every step."""

from explore_gym.envs.engine import kernel
from explore_gym.envs.xland.tasks import INDEPENDENT
from explore_gym.envs.xland.world import MAX_OPTIONS, MAX_PREDICATES, place_agent, visit
from explore_gym.envs.xland.xland import XLandEnv, finish


@kernel
def clear_goals(state):
    """No goals, no rules and nothing that a generator has drawn."""
    state.num_rules, state.num_objects, state.num_nodes = 0, 0, 0
    for i in range(state.row.shape[0]):
        for option in range(MAX_OPTIONS):
            for k in range(MAX_PREDICATES):
                for part in range(4):
                    state.goals[i, option, k, part] = 0


@kernel
def set_goal(state, i, option, k, kind, negated, a, b):
    """A condition of agent i's goal."""
    state.goals[i, option, k, 0], state.goals[i, option, k, 1] = kind, 1 if negated else 0
    state.goals[i, option, k, 2], state.goals[i, option, k, 3] = a, b


@kernel
def enter(params, state):
    """The first look, and the cells that agents stand on counted as visited."""
    finish(params, state)
    for i in range(state.row.shape[0]):
        visit(state, i)


@kernel
def settle(params, state):
    """All agents at random places, and the first look."""
    for i in range(state.row.shape[0]):
        place_agent(state, i, 1, 1, state.grid.shape[0] - 2, state.grid.shape[1] - 2)
    enter(params, state)


class NamedGame(XLandEnv):
    """A hand-made task for several agents; `dynamics[0]` sets it up.

    Args:
        teams: the agents' colours.
        size, rooms, max_objects, trial_steps, agent_view_size, see_through_walls, reward_of: as in `XLandEnv`.
        render_mode, max_episode_steps: as in `KernelEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, *, teams, size, rooms, max_objects, trial_steps, agent_view_size, see_through_walls, reward_of, render_mode,
        max_episode_steps, open_doors=False,
    ):  # fmt: skip
        super().__init__(
            size=size,
            rooms=rooms,
            agents=len(teams),
            joint=True,
            teams=teams,
            max_rules=1,
            max_objects=max_objects,
            nodes=1,
            trials=1,
            trial_steps=trial_steps,
            reward="hold",
            reward_of=reward_of,
            goal_visible=True,
            rules_visible=False,
            open_doors=open_doors,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            params=dict(relation=INDEPENDENT),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )
