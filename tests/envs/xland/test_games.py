"""Tasks for several agents: their goals by hand, as PettingZoo sees them, and as lanes."""

import numpy as np
import pytest
from worlds import BLUE_BALL, draw

from explore_gym.envs.xland import GAMES, agent_lanes, game_class, parallel_env
from explore_gym.envs.xland.world import BLUE, FORWARD, PICK_UP, PUT_DOWN, RED, TURN_LEFT, TURN_RIGHT, YELLOW

TRIALS = dict(relation="shared", trials=2, trial_steps=20, reward="once")
CASES = [
    ("Games", {}),
    ("Games", TRIALS),
    ("HideAndSeek", {}),
    ("Tag", {}),
    ("CaptureTheFlag", {}),
    ("KeepAway", {}),
]
cases = pytest.mark.parametrize(("name", "kwargs"), CASES, ids=[f"{name}{kwargs or ''}" for name, kwargs in CASES])


@cases
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pettingzoo_parallel_api(name, kwargs):
    pettingzoo = pytest.importorskip("pettingzoo.test")
    pettingzoo.parallel_api_test(parallel_env(name, **kwargs), num_cycles=700)


@cases
def test_the_same_seed_gives_the_same_episodes(name, kwargs):
    """Two environments, three whole episodes of random actions: observations, rewards, flags and infos, bit for bit."""
    pytest.importorskip("pettingzoo")
    envs = parallel_env(name, **kwargs), parallel_env(name, **kwargs)
    steps = 0
    for seed in (42, None, None):
        starts = [env.reset(seed=seed) for env in envs]
        assert_same(*starts)
        spaces = [envs[0].action_space(agent) for agent in envs[0].possible_agents]
        for i, space in enumerate(spaces):
            space.seed(42 + i)
        while envs[0].agents:
            actions = {agent: int(space.sample()) for agent, space in zip(envs[0].agents, spaces, strict=True)}
            returned = [env.step(actions) for env in envs]
            assert_same(*returned)
            assert envs[0].agents == envs[1].agents
            obs = returned[0][0]
            assert all(envs[0].observation_space(agent).contains(obs[agent]) for agent in obs)
            steps += 1
        assert set(returned[0][2]) == set(envs[0].possible_agents)
    assert steps >= 3
    assert_differs(starts[0], envs[0].reset(seed=43))


def leaves(value):
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key])]
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, tuple) else [np.asarray(value)]


def assert_same(one, two):
    for a, b in zip(leaves(one), leaves(two), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


def assert_differs(one, two):
    assert any(not np.array_equal(a, b) for a, b in zip(leaves(one), leaves(two), strict=True))


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_lanes_are_the_agents_of_the_parallel_environment(mode):
    pytest.importorskip("pettingzoo")
    lanes = agent_lanes("Tag", num_envs=2, autoreset_mode=mode, trial_steps=25)
    assert (lanes.num_envs, lanes.single_action_space.n) == (4, 6)
    worlds = [parallel_env("Tag", trial_steps=25) for _ in range(2)]
    obs, info = lanes.reset(seed=5)
    starts = [env.reset(seed=5 + i) for i, env in enumerate(worlds)]
    rng = np.random.default_rng(0)
    seen = 0.0
    for step in range(25):
        assert lanes.observation_space.contains(obs)
        for i, (own, infos) in enumerate(starts):
            for j, agent in enumerate(worlds[0].possible_agents):
                for key in own[agent]:
                    assert np.array_equal(obs[key][2 * i + j], own[agent][key]), key
                assert info["cell"][2 * i + j] == infos[agent]["cell"]
                assert info["task"][2 * i + j] == infos[agent]["task"] == -1
        actions = rng.integers(6, size=4)
        obs, rewards, terminated, truncated, info = lanes.step(actions)
        returned = [env.step(dict(zip(env.agents, actions[2 * i : 2 * i + 2]))) for i, env in enumerate(worlds)]
        assert rewards.tolist() == [r for result in returned for r in result[1].values()]
        assert truncated.tolist() == [step == 24] * 4
        assert not terminated.any()
        starts = [(result[0], result[4]) for result in returned]
        seen += rewards.sum()
    if mode == "SameStep":
        for i, (own, infos) in enumerate(starts):
            assert np.array_equal(info["final_obs"]["image"][2 * i], own["agent_0"]["image"])
            assert info["final_info"]["visited"][2 * i + 1] == infos["agent_1"]["visited"]
    assert seen > 0


def test_lanes_refuse_half_a_world():
    lanes = agent_lanes("Tag", num_envs=2, autoreset_mode="Disabled", trial_steps=25)
    lanes.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask must reset all 2 agents of a world or none"):
        lanes.reset(options={"reset_mask": np.array([True, False, True, True])})
    lanes.reset(options={"reset_mask": np.array([True, True, False, False])})
    with pytest.raises(Exception, match=r"actions must have shape \(4,\), one for each agent, got \(2,\)"):
        lanes.step([0, 0])


def world(name, rows, **kwargs):
    """A game in a drawn world with its own goals."""
    env = game_class(name)(**kwargs)
    env.reset(seed=0)
    goals = env.get_state()["goals"]
    draw(env, rows)
    env.set_state(goals=goals)
    return env


def rewards_after(env, *actions):
    return [env.step(np.array(action))[4]["rewards"].tolist() for action in actions]


def test_tag():
    env = world("Tag", ["######", "#>  <#", "######"])
    assert env.get_state()["team"].tolist() == [RED, BLUE]
    assert rewards_after(env, [FORWARD, TURN_LEFT], [FORWARD, TURN_LEFT]) == [[0.0, 1.0], [1.0, 0.0]]
    assert env.step(np.array([TURN_LEFT, TURN_LEFT]))[1] == 0.5  # the mean
    last = world("Tag", ["######", "#>  <#", "######"], reward_of=1)
    assert last.step(np.array([FORWARD, TURN_LEFT]))[1] == 1.0


def test_hide_and_seek():
    env = world("HideAndSeek", ["########", "#> + <##", "########"])
    assert rewards_after(env, [TURN_LEFT, TURN_LEFT], [TURN_RIGHT, TURN_LEFT]) == [[0.0, 1.0], [0.0, 1.0]]  # behind a door
    env = world("HideAndSeek", ["########", "#> _ <##", "########"])
    assert rewards_after(env, [TURN_LEFT, TURN_LEFT], [TURN_RIGHT, TURN_LEFT]) == [[0.0, 1.0], [1.0, 0.0]]


def test_capture_the_flag():
    env = game_class("CaptureTheFlag")()
    env.reset(seed=0)
    state = env.get_state()
    flags = {color: np.argwhere(state["grid"] & 255 == 7 | color << 4)[0] for color in (RED, BLUE)}
    assert flags[RED][1] < 6 < flags[BLUE][1]
    assert [int((state["grid"] >> 8 & 15 == color).sum()) for color in (RED, BLUE)] == [9, 9]
    assert (state["col"] < 6).tolist() == [True, False]
    grid = state["grid"].copy()
    grid[tuple(flags[BLUE])] = 3 | BLUE << 4 | BLUE << 8
    row, col = flags[RED]
    grid[row, col + 1] = 7 | BLUE << 4 | RED << 8  # the blue flag on the red floor, beside the red one
    env.set_state(grid=grid)
    assert env.get_state()["success"].tolist() == [1, 0]
    grid[row, col] = 3 | RED << 4 | RED << 8  # no longer the red one
    env.set_state(grid=grid)
    assert env.get_state()["success"].tolist() == [0, 0]
    assert game_class("CaptureTheFlag")(agents=4).params["teams"].tolist() == [[RED, RED, BLUE, BLUE]]


def test_keep_away():
    env = world("KeepAway", ["########", "#>   > #", "#   <  #"])
    ball = 5 | YELLOW << 4
    env.set_state(pocket=[ball, 0, 0])
    assert rewards_after(env, [TURN_LEFT] * 3) == [[1.0, 1.0, 0.0]]
    env.set_state(pocket=[0, 0, ball])
    assert rewards_after(env, [TURN_LEFT] * 3) == [[0.0, 0.0, 1.0]]
    env = world("KeepAway", ["########", "#>  >  #", "#   <  #"])
    env.set_state(pocket=[0, ball, 0])
    assert rewards_after(env, [TURN_LEFT] * 3) == [[0.0, 0.0, 1.0]]  # beside the carrier


def test_the_keepers_may_pass():
    env = world("KeepAway", ["########", "#> <   #", "#     ^#"])
    env.set_state(pocket=[5 | YELLOW << 4, 0, 0])
    assert rewards_after(env, [PUT_DOWN, TURN_LEFT, TURN_LEFT]) == [[1.0, 1.0, 0.0]]
    env.step(np.array([TURN_LEFT, TURN_RIGHT, TURN_LEFT]))
    env.step(np.array([TURN_LEFT, PICK_UP, TURN_LEFT]))
    assert env.get_state()["pocket"].tolist() == [0, 5 | YELLOW << 4, 0]


def test_numbers_of_agents_do_not_hide_where_they_look_in_a_drawing_of_characters():
    env = world("KeepAway", ["########", "#> ^   #", "#   <  #"], render_mode="ansi")
    lines = env.render().split("\n")
    assert lines[1].startswith("#> ^   #") and lines[2].startswith("#   <  #")


def test_trials_of_several_agents_end_for_all_and_pay_once():
    """Agent 1 reaches its goal in the third step of the trial; then both stand elsewhere, in the second trial."""
    env = game_class("Games")(**TRIALS)
    env.reset(seed=0)
    draw(env, ["########", "#>  b <#", "########"], goals=[[], [[(1, 0, 13, BLUE_BALL)]]])
    results = [env.step(np.array(actions)) for actions in ([FORWARD, TURN_LEFT], [FORWARD, TURN_RIGHT])]
    assert all(result[4]["trial"] == 0 and not result[4]["trial_end"] for result in results)
    obs, reward, terminated, truncated, info = env.step(np.array([TURN_LEFT, FORWARD]))
    assert reward == 0.0
    obs, reward, terminated, truncated, info = env.step(np.array([TURN_LEFT, PICK_UP]))
    pay = 1.0 - 0.9 * 4 / 20
    assert info["rewards"].tolist() == pytest.approx([0.0, pay]) and reward == pytest.approx(pay / 2)
    assert (info["trial"], info["trial_end"], info["solved"]) == (1, True, 1)
    assert info["options"].tolist()[1] == pytest.approx([pay, 0.0, 0.0])
    assert (terminated, truncated) == (False, False)
    assert obs["clock"].tolist() == [[0.5, 0.0]] * 2 and obs["pocket"].tolist() == [[0, 0]] * 2
    for _ in range(19):
        *_, terminated, truncated, info = env.step(np.array([TURN_LEFT, TURN_LEFT]))
        assert not terminated
    *_, terminated, truncated, info = env.step(np.array([TURN_LEFT, TURN_LEFT]))
    assert (terminated, truncated, info["trial_end"]) == (True, False, True)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"name must be one of Games, HideAndSeek, .*, got 'Chess'"):
        game_class("Chess")
    assert set(GAMES) == {name for name, _ in CASES}
