"""XLand: find out what a world wants. Rooms full of things, production rules and a goal, another task in each episode.

Observation: dict of "image", uint8 (5, 5, 2): kind and colour of the tiles in front of the agent, which stands in the middle of
             the near end, [y, x] counted from the far left; "direction", 0 up, 1 right, 2 down, 3 left; "pocket", uint8 (2,),
             kind and colour of the tile carried, 0 without. trials > 1 adds "clock", float32 (2,): shares of the trials and of
             the trial's steps that are over. goal_visible=True adds "goal", uint8 (3, 3, 6): for each condition of each option
             kind, negated, and kind and colour (row and column) of both sides; rules_visible=True "rules", uint8 (rules, 7):
             kind, and kind and colour of inputs and product. Rows of zeros are empty.
Action:      Discrete(6): 0 forward, 1 turn right, 2 turn left, 3 pick up, 4 put down, 5 toggle (open or close the door ahead).
Reward:      1 - 0.9 t / trial_steps on reaching the goal at step t of the trial, which ends then; otherwise 0. reward="hold": 1
             in every step in which the goal holds; a trial lasts trial_steps.
Terminates:  on the goal; with trials > 1 at the end of the last trial.  Truncates: after trial_steps (3 * size * size) if
             there is but one trial.
Info:        task (index), form (hash of the form of the solution), trial (its number), solved (trials that ended at the goal);
             truth (3, 3), whether each condition holds in what is observed now, -1 without one; of the step taken trial_end
             (whether it ended a trial), success (whether the goal held after it) and options (3,), the reward for each
             option alone; cell (row * size + column), visited (distinct cells in this episode), coverage (visited / cells one
             can stand on).
Tasks:       walls, doors, things, rules and goal are a function of a 63-bit index; see `xland.tasks`. tasks="train" and "test"
             draw from two sets of indices whose solutions differ in form, "all" from all of them; an index, or several, is
             exactly that. Where things and agent stand is drawn anew in each trial, so that the goal doesn't hold at once.
Source:      Nikulin et al., "XLand-MiniGrid" (2023, arXiv:2312.12044); Open-Ended Learning Team, "Open-Ended Learning Leads to
             Generally Capable Agents" (2021, arXiv:2107.12808), of which come goals with several conditions, reward="hold" and
             everything with several agents. XLand-MiniGrid's sizes are variants: `VARIANTS` in `explore_gym.envs`.
"""

import copy
import functools

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, kernel, seed_stream, vectorize
from explore_gym.envs.engine.env import is_integer
from explore_gym.envs.engine.kernels import Record, rebuild
from explore_gym.envs.gridworlds.grid import both, check_integer
from explore_gym.envs.xland.drawing import draw_world
from explore_gym.envs.xland.logic import AT, produce, refresh
from explore_gym.envs.xland.tasks import (
    ALL,
    GOAL_KINDS,
    LAYOUT_STREAM,
    MAX_INDEX,
    NUM_TILES,
    RELATIONS,
    RULE_KINDS,
    RULESETS,
    SPLITS,
    TASK_DERIVED,
    derive_goals,
    draw_index,
    draw_structure,
    find_task,
    in_split,
    num_goals,
    table_sizes,
    task_fields,
)
from explore_gym.envs.xland.world import (
    AGENT,
    DERIVED,
    EMPTY,
    FORWARD,
    LAYOUTS,
    MAX_OPTIONS,
    MAX_PREDICATES,
    NUM_ACTIONS,
    PICK_UP,
    PUT_DOWN,
    TEAMS,
    TOGGLE,
    TURN_LEFT,
    TURN_RIGHT,
    act,
    build,
    encode,
    find_cell,
    place,
    place_agent,
    visit,
    world_state,
)

FRESH_STARTS = 16  # placements that are tried until the goal doesn't hold at once
REWARDS = ("once", "hold")
MAX_TASKS = 1_000_000  # given by their indices
PROBES = 512  # indices among which a split must have a task
CROWD = 0.6  # largest share of the floor that things and agents may take


@kernel
def begin(params, state):
    """An episode in which nothing has happened yet, without a task."""
    state.task, state.form = -1, -1
    state.trial, state.trial_start, state.trial_end, state.solved = 0, 0, False, 0
    state.num_events = 0
    for index in range(state.visits.shape[0]):
        state.visits[index] = 0
    for i in range(state.row.shape[0]):
        state.team[i], state.pocket[i] = params.teams[i], EMPTY
        state.visited[i], state.rewards[i], state.reached[i], state.action[i], state.target[i] = 0, 0.0, 0, 0, -1
        for option in range(MAX_OPTIONS):
            state.option_rewards[i, option] = 0.0


@kernel
def finish(params, state):
    """The first look at what has been placed."""
    state.stale = True
    refresh(params, state)


@kernel
def place_targets(params, state):
    """The positions that the task's goals name: a random floor each."""
    height, width = state.grid.shape
    for i in range(num_goals(params, state)):
        for option in range(MAX_OPTIONS):
            for k in range(MAX_PREDICATES):
                if state.goals[i, option, k, 0] == AT:
                    index = find_cell(state, 1, 1, height - 2, width - 2)
                    state.goals[i, option, k, 3] = index // width << 8 | index % width


@kernel
def arrange(params, state):
    """Things and agents at random places in the task's rooms, so that no goal holds that would end a trial, if that can be."""
    height, width = state.grid.shape
    for _ in range(FRESH_STARTS):
        word = state.rng
        seed_stream(state, LAYOUT_STREAM, state.task)
        build(params, state)
        place_targets(params, state)
        state.rng = word
        derive_goals(params, state)
        for k in range(state.num_objects):
            place(state, state.objects[k], 1, 1, height - 2, width - 2)
        for i in range(state.row.shape[0]):
            place_agent(state, i, 1, 1, height - 2, width - 2)
        finish(params, state)
        reached = False
        for i in range(state.row.shape[0]):
            reached = reached or state.success[i] > 0
        if params.holding or not reached:
            break
    for i in range(state.row.shape[0]):
        visit(state, i)


@kernel
def reset(params, state):
    begin(params, state)
    find_task(params, state, draw_index(params, state))
    arrange(params, state)


@kernel
def advance(params, state):
    """A step with the actions in `state.action`. Returns the reward and whether the task has ended."""
    act(state)
    produce(state)
    refresh(params, state)
    agents, passed = state.row.shape[0], state.t - state.trial_start
    pay = 1.0 if params.holding else 1.0 - 0.9 * (passed / params.trial_steps)
    reached, total = False, 0.0
    for i in range(agents):
        state.reached[i] = state.success[i]
        state.rewards[i] = pay if state.success[i] else 0.0
        for option in range(MAX_OPTIONS):
            state.option_rewards[i, option] = pay if state.options[i, option] else 0.0
        reached = reached or state.success[i] > 0
        total += state.rewards[i]
    reward = total / agents if params.reward_of < 0 else state.rewards[max(params.reward_of, 0)]
    done = reached and not params.holding
    state.trial_end = done or passed >= params.trial_steps
    if not state.trial_end:
        return reward, False
    state.solved += 1 if reached else 0
    if state.trial + 1 == params.trials:
        return reward, done or params.trials > 1
    state.trial += 1
    state.trial_start = state.t
    arrange(params, state)
    return reward, False


@kernel
def step(params, state, action):
    state.action[0] = action
    return advance(params, state)


@kernel
def step_all(params, state, actions):
    for i in range(state.row.shape[0]):
        state.action[i] = actions[i]
    return advance(params, state)


@kernel
def observe(params, state, obs):
    if state.stale:  # set from outside
        refresh(params, state)
    size = state.image.shape[1]
    for i in range(state.row.shape[0]):
        for k in range(size):
            obs.image[size * i + k] = state.image[i, k]
        encode(obs.pocket, 2 * i, np.int64(state.pocket[i]))


@kernel
def observe_direction(params, state, obs):
    obs.direction = state.direction[0]


@kernel
def observe_directions(params, state, obs):
    for i in range(state.row.shape[0]):
        obs.direction[i] = state.direction[i]


@kernel
def observe_clock(params, state, obs):
    for i in range(state.row.shape[0]):
        obs.clock[2 * i] = state.trial / params.trials
        obs.clock[2 * i + 1] = (state.t - state.trial_start) / params.trial_steps


@kernel
def observe_goal(params, state, obs):
    at = 0
    for i in range(state.row.shape[0]):
        for option in range(MAX_OPTIONS):
            for k in range(MAX_PREDICATES):
                kind, b = np.int64(state.goals[i, option, k, 0]), np.int64(state.goals[i, option, k, 3])
                obs.goal[at], obs.goal[at + 1] = kind, state.goals[i, option, k, 1]
                encode(obs.goal, at + 2, np.int64(state.goals[i, option, k, 2]))
                if kind == AT:
                    obs.goal[at + 4], obs.goal[at + 5] = b >> 8, b & 255
                else:
                    encode(obs.goal, at + 4, b)
                at += 6


@kernel
def observe_rules(params, state, obs):
    at = 0
    for _ in range(state.row.shape[0]):
        for k in range(state.rules.shape[0]):
            there = k < state.num_rules
            obs.rules[at] = state.rules[k, 0] if there else 0
            for part in range(3):
                encode(obs.rules, at + 1 + 2 * part, np.int64(state.rules[k, 1 + part]) if there else 0)
            at += 7


@kernel
def inform_task(params, state, info):
    info.task, info.form = state.task, state.form
    info.trial, info.trial_end, info.solved = state.trial, state.trial_end, state.solved


@kernel
def inform(params, state, info):
    inform_task(params, state, info)
    for option in range(MAX_OPTIONS):
        info.options[option] = state.option_rewards[0, option]
        for k in range(MAX_PREDICATES):
            info.truth[option, k] = state.truth[0, option, k]
    info.success = state.reached[0] > 0
    info.cell = state.row[0] * state.grid.shape[1] + state.col[0]
    info.visited = state.visited[0]
    info.coverage = state.visited[0] / state.walkable


@kernel
def inform_all(params, state, info):
    inform_task(params, state, info)
    for i in range(state.row.shape[0]):
        for option in range(MAX_OPTIONS):
            info.options[i, option] = state.option_rewards[i, option]
            for k in range(MAX_PREDICATES):
                info.truth[i, option, k] = state.truth[i, option, k]
        info.rewards[i] = state.rewards[i]
        info.success[i] = state.reached[i]
        info.cell[i] = state.row[i] * state.grid.shape[1] + state.col[i]
        info.visited[i] = state.visited[i]
        info.coverage[i] = state.visited[i] / state.walkable


class XLandEnv(KernelEnv):
    """A world of XLand for one agent or, `joint`, for several that act at once; `dynamics[0]` draws the task.

    Jointly, an action is one for each agent and each part of an observation has a leading axis over agents; the reward is the
    mean of the agents' rewards or, with `reward_of`, that agent's; each agent's own is in `info["rewards"]`.

    Args:
        size: cells along each side, outer walls included.
        rooms: 1, 2, 4, 6 or 9.
        agents: their number; joint: whether actions and observations have an axis for them; teams: their colours.
        max_rules, max_objects, nodes: sizes of the task's tables.
        trials: episodes in the same world, in each of which things and agents are placed anew.
        trial_steps: time limit of a trial in steps; None: 3 * size * size.
        reward: "once": 1 - 0.9 t / trial_steps on reaching a goal, which ends the trial; "hold": 1 in each step with the goal.
        reward_of: the agent whose reward the environment returns; None: the mean over agents.
        goal_visible, rules_visible: whether the observation has "goal" and "rules".
        open_doors: whether doors are open at the start.
        agent_view_size: cells along each side of the view, odd, in [3, 15].
        see_through_walls: whether the view is without occlusion.
        params: further parameters, as the kernels in `tasks` need them.
        render_mode, max_episode_steps: as in `KernelEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    untracked = (*DERIVED, *TASK_DERIVED)
    keys = {
        "up": FORWARD,
        "right": TURN_RIGHT,
        "left": TURN_LEFT,
        "page up": PICK_UP,
        "page down": PUT_DOWN,
        "space": TOGGLE,
    }

    def __init__(
        self, *, size, rooms, agents, joint, teams, max_rules, max_objects, nodes, trials, trial_steps, reward, reward_of,
        goal_visible, rules_visible, open_doors, agent_view_size, see_through_walls, params, render_mode, max_episode_steps,
    ):  # fmt: skip
        check_integer("size", size, 5, 255)
        if rooms not in LAYOUTS:
            raise ValueError(f"rooms must be one of {LAYOUTS}, got {rooms!r}")
        if rooms == 9 and (size < 7 or size % 3 != 1):
            raise ValueError(f"size must be 3 k + 1 and at least 7 for 9 rooms, got {size}")
        if (rooms == 4 and size < 7) or (rooms == 6 and size < 11):
            raise ValueError(f"size must be at least {7 if rooms == 4 else 11} for {rooms} rooms, got {size}")
        check_integer("trials", trials, 1, 10_000)
        trial_steps = 3 * size * size if trial_steps is None else trial_steps
        check_integer("trial_steps", trial_steps, 1, 100_000)
        check_integer("agent_view_size", agent_view_size, 3, 15, odd=True)
        if reward not in REWARDS:
            raise ValueError(f"reward must be one of {REWARDS}, got {reward!r}")
        if reward_of is not None:
            check_integer("reward_of", reward_of, 0, agents - 1)
        if max_objects + agents > CROWD * floor_cells(size, rooms):
            raise ValueError(
                f"the rooms must have {(max_objects + agents) / CROWD:.0f} cells of floor for up to {max_objects} things and "
                f"{agents} agents, got {floor_cells(size, rooms)} (size={size}, rooms={rooms})"
            )
        v, many = agent_view_size, (agents,) if joint else ()
        direction = (
            (spaces.MultiDiscrete([4] * agents), observe_directions) if joint else (spaces.Discrete(4), observe_direction)
        )
        parts = {
            "image": (spaces.Box(0, AGENT + 3, (*many, v, v, 2), np.uint8), observe),
            "direction": direction,
            "pocket": (spaces.Box(0, AGENT, (*many, 2), np.uint8), None),
        }
        if trials > 1:
            parts["clock"] = spaces.Box(0.0, 1.0, (*many, 2), np.float32), observe_clock
        if goal_visible:
            shape = (*many, MAX_OPTIONS, MAX_PREDICATES, 6)
            parts["goal"] = spaces.Box(0, max(AGENT, size - 1), shape, np.uint8), observe_goal
        if rules_visible:
            parts["rules"] = spaces.Box(0, AGENT, (*many, max_rules, 7), np.uint8), observe_rules
        write = functools.reduce(both, (writer for _, writer in parts.values() if writer))
        self.dynamics = (self.dynamics[0], step_all if joint else step, write, inform_all if joint else inform)
        self.num_agents = agents
        super().__init__(
            state=world_state(size, size, v, agents, max_rules, max_objects, **task_fields(agents, nodes)),
            params=dict(
                rooms=rooms,
                open_doors=bool(open_doors),
                teams=np.array(teams, np.int64),
                trials=trials,
                trial_steps=trial_steps,
                holding=reward == "hold",
                reward_of=-1 if reward_of is None else reward_of,
                view_columns=np.arange(v),
                see_through_walls=bool(see_through_walls),
                **params,
            ),
            observation_space=spaces.Dict({key: space for key, (space, _) in parts.items()}),
            action_space=spaces.MultiDiscrete([NUM_ACTIONS] * agents) if joint else spaces.Discrete(NUM_ACTIONS),
            info=dict(
                task=int,
                form=int,
                trial=int,
                trial_end=bool,
                solved=int,
                truth=(int, (*many, MAX_OPTIONS, MAX_PREDICATES)),
                options=(float, (*many, MAX_OPTIONS)),
                **(dict(rewards=(float, many)) if joint else {}),
                success=(int, many) if joint else bool,
                cell=(int, many),
                visited=(int, many),
                coverage=(float, many),
            ),
            flat=True,
            max_steps=trial_steps if trials == 1 else None,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def shortest_path(self, max_states=1_000_000):
        """The fewest actions from the current state to the goal, None if there is no way; of this trial, if there are several.

        Raises:
            ValueError: there are several agents, or more than max_states states.
        """
        only_trial = copy.copy(self)
        only_trial.params = self.params.copy()
        only_trial.params["trials"] = 1  # ends with the trial: to place things for the next one would draw random numbers
        return KernelEnv.shortest_path(only_trial, max_states)

    def draw(self, canvas, state):
        draw_world(canvas, state)


def floor_cells(size, rooms):
    """Cells of floor within the walls, doors not counted."""
    inner = size - 2
    if rooms == 6:
        return inner * inner - 2 * inner - 4 * (size // 2 - 3)
    walls = {1: 0, 2: 1, 4: 2, 9: 4}[rooms]  # across the whole world
    return inner * inner - walls * inner + (walls // 2) ** 2


def check_kinds(name, kinds, known, agents):
    """The numbers of kinds of conditions given by name."""
    known = known if agents > 1 else known[:10]
    if not isinstance(kinds, (tuple, list)) or not kinds or not set(kinds) <= set(known):
        raise ValueError(f"{name} must be one or several of {', '.join(known)}, got {kinds!r}")
    return np.array([known.index(kind) for kind in kinds])


def check_tasks(tasks):
    """The parameters `split`, `num_tasks` and `tasks` for a split's name, an index or a sequence of indices."""
    if isinstance(tasks, str):
        if tasks not in SPLITS:
            raise ValueError(f"tasks must be one of {SPLITS}, an index or a sequence of indices, got {tasks!r}")
        return dict(split=SPLITS.index(tasks), num_tasks=0, tasks=np.zeros(1, np.int64))
    indices = [tasks] if is_integer(tasks) else tasks
    several = isinstance(indices, (list, tuple, np.ndarray)) and 1 <= len(indices) <= MAX_TASKS
    if not several or not all(is_integer(i) and 0 <= i <= MAX_INDEX for i in indices):
        raise ValueError(f"tasks must be 1 to {MAX_TASKS} integers in [0, 2**63), got {tasks!r}")
    room = 1 << (len(indices) - 1).bit_length()  # few lengths, each of which is compiled anew
    return dict(split=ALL, num_tasks=len(indices), tasks=np.resize(np.array(indices, np.int64), room))


def check_split(env, what):
    """Raise a ValueError unless a split has a task among the first indices."""
    draw, fits = (rebuild(f, lambda original, copied: copied, {}) for f in (draw_structure, in_split))
    params, state = Record(env.params[0]), Record(np.zeros(1, env.state_dtype)[0])
    state.team[:] = params.teams
    with np.errstate(over="ignore"):
        for index in range(PROBES):
            draw(params, state, index)
            if fits(params, state.form):
                return
    raise ValueError(f"tasks={what!r} needs more forms of solutions: none of {PROBES} tasks belongs to it; draw more kinds")


def generator_params(
    agents, rules, depth, prune, breadth, distractor_rules, distractor_objects, goal_kinds, rule_kinds, max_options,
    max_predicates, negation, relation, tasks, abstract,
):  # fmt: skip
    """The parameters of the generator, and the sizes of its tables.

    Raises:
        ValueError: an argument is out of range.
    """
    if rules not in RULESETS:
        raise ValueError(f"rules must be one of {', '.join(RULESETS)}, got {rules!r}")
    given = dict(depth=depth, prune=prune, distractor_rules=distractor_rules, distractor_objects=distractor_objects)
    chosen = {**RULESETS[rules], **{key: value for key, value in given.items() if value is not None}}
    check_integer("depth", chosen["depth"], 0, 4)
    check_integer("distractor_rules", chosen["distractor_rules"], 0, 16)
    check_integer("distractor_objects", chosen["distractor_objects"], 0, 32)
    if breadth is not None:
        check_integer("breadth", breadth, 1, NUM_TILES)
    for name, value in (("prune", chosen["prune"]), ("negation", negation)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {value!r}")
    check_integer("max_options", max_options, 1, MAX_OPTIONS)
    check_integer("max_predicates", max_predicates, 1, MAX_PREDICATES)
    if relation not in RELATIONS:
        raise ValueError(f"relation must be one of {RELATIONS}, got {relation!r}")
    independent = relation == "independent"
    if independent and agents * max_options * max_predicates > MAX_OPTIONS * MAX_PREDICATES:
        raise ValueError(
            f"agents * max_options * max_predicates must be at most {MAX_OPTIONS * MAX_PREDICATES} for independent goals, "
            f"got {agents} * {max_options} * {max_predicates}"
        )
    if relation == "opposed" and max_options > 1:
        raise ValueError(f"max_options must be 1 for opposed goals, got {max_options}")
    params = dict(
        **chosen,
        breadth=NUM_TILES if breadth is None else breadth,
        goal_kinds=check_kinds("goal_kinds", goal_kinds, GOAL_KINDS, agents),
        rule_kinds=check_kinds("rule_kinds", rule_kinds, RULE_KINDS, agents),
        max_options=max_options,
        max_predicates=max_predicates,
        negation=float(negation),
        relation=RELATIONS.index(relation),
        abstract=bool(abstract),
        **check_tasks(tasks),
    )
    params["prune"] = float(params["prune"])
    sizes = table_sizes(
        agents,
        chosen["depth"],
        chosen["distractor_rules"],
        chosen["distractor_objects"],
        max_options,
        max_predicates,
        independent,
    )
    return params, dict(zip(("nodes", "max_rules", "max_objects"), sizes))


class XLand(XLandEnv):
    """Procedurally generated tasks for one agent.

    Args:
        rooms: 1, 2, 4, 6 or 9.
        size: cells along each side, outer walls included: at least 5, 7 for 4 rooms, 11 for 6, 3 k + 1 for 9.
        rules: "trivial", "small", "medium" or "high", XLand-MiniGrid's sets, which give the next four where they are None.
        depth: levels of production behind the goal, in [0, 4].
        prune: probability that a tile lies in the world although it could be produced.
        distractor_rules: most rules that nobody needs; their number is uniform.
        distractor_objects: number of things that nobody needs.
        breadth: most tiles of a level that are produced; None: all.
        goal_kinds, rule_kinds: kinds of conditions to draw from, of `GOAL_KINDS` and `RULE_KINDS` in `xland.tasks`.
        max_options, max_predicates: most options of a goal and conditions of an option, in [1, 3]; their numbers are uniform.
        negation: probability that a condition beyond an option's first is negated.
        tasks: "all", "train" or "test", or the index of a task, or a sequence of them, one of which each episode draws.
        abstract: whether the split is by forms without the names of shapes and colours.
        trials, trial_steps, reward, goal_visible, rules_visible, open_doors: as in `XLandEnv`.
        agent_view_size, see_through_walls: as in `XLandEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        rooms=1,
        size=9,
        rules="small",
        depth=None,
        prune=None,
        distractor_rules=None,
        distractor_objects=None,
        breadth=None,
        goal_kinds=GOAL_KINDS[:3],
        rule_kinds=RULE_KINDS[:3],
        max_options=1,
        max_predicates=1,
        negation=0.0,
        tasks="all",
        abstract=False,
        trials=1,
        trial_steps=None,
        reward="once",
        goal_visible=False,
        rules_visible=False,
        open_doors=False,
        agent_view_size=5,
        see_through_walls=True,
        render_mode=None,
        max_episode_steps=None,
    ):
        params, sizes = generator_params(
            1, rules, depth, prune, breadth, distractor_rules, distractor_objects, goal_kinds, rule_kinds, max_options,
            max_predicates, negation, "independent", tasks, abstract,
        )  # fmt: skip
        super().__init__(
            size=size,
            rooms=rooms,
            agents=1,
            joint=False,
            teams=TEAMS[:1],
            trials=trials,
            trial_steps=trial_steps,
            reward=reward,
            reward_of=None,
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


XLandVector = vectorize(XLand)
