import numpy as np
import pytest
from parity import drawn
from scipy import ndimage, stats

from explore_gym.envs.engine.planning import shortest_paths
from explore_gym.envs.gridworlds.grid import (
    DONE,
    DOOR,
    DROP,
    EAST,
    EMPTY,
    FORWARD,
    GOAL,
    GREEN_GOAL,
    GREY_WALL,
    LOCKED,
    NORTH,
    PICKUP,
    SOUTH,
    TOGGLE,
    TURN_LEFT,
    TURN_RIGHT,
    WALL,
    WEST,
    YELLOW,
    cell,
)
from explore_gym.envs.gridworlds.key_room import (
    BUMP,
    DOOR_CLOSES,
    DOOR_LOCKED,
    DOOR_OPENS,
    KEY_AHEAD,
    KEY_DROPPED,
    KEY_TAKEN,
    MONSTER,
    NOTHING,
    YELLOW_KEY,
    KeyRoom,
    KeyRoomVector,
)

LOCKED_DOOR = cell(DOOR, YELLOW, LOCKED)


@pytest.fixture(scope="module")
def layouts():
    envs = KeyRoomVector(num_envs=500, num_monsters=1)
    envs.reset(seed=0)
    return envs.get_state()


def passage():
    """An agent that looks at the key, behind it the door and the goal."""
    env = KeyRoom()
    env.reset(seed=0)
    env.set_state(
        grid=drawn(env, "#######", "#.KD.G#", K=YELLOW_KEY, D=LOCKED_DOOR), row=1, col=1, direction=EAST, message=KEY_AHEAD
    )
    return env


def test_key_door_goal_and_what_is_said():
    env, way = passage(), (PICKUP, FORWARD, TOGGLE, FORWARD, FORWARD, FORWARD)
    results = [env.step(action) for action in way]
    assert [r[1:3] for r in results] == [(0.0, False)] * 5 + [(1.0, True)]
    assert [r[0]["message"] for r in results] == [KEY_TAKEN, NOTHING, DOOR_OPENS, NOTHING, NOTHING, NOTHING]
    assert [r[4]["message"] for r in results] == [r[0]["message"] for r in results]
    assert results[-1][4]["success"]
    assert env.messages[KEY_TAKEN] == "You pick up the key."


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        ((DONE,), [KEY_AHEAD]),
        ((FORWARD, TURN_LEFT, TURN_RIGHT), [BUMP, NOTHING, KEY_AHEAD]),
        ((TURN_LEFT, FORWARD), [NOTHING, BUMP]),  # into the wall
        ((PICKUP, DROP, PICKUP, PICKUP), [KEY_TAKEN, KEY_DROPPED, KEY_TAKEN, NOTHING]),
        ((PICKUP, FORWARD, FORWARD), [KEY_TAKEN, NOTHING, DOOR_LOCKED]),  # the key in the hand doesn't open it by itself
        ((PICKUP, FORWARD, TOGGLE, TOGGLE, FORWARD, TOGGLE), [KEY_TAKEN, NOTHING, DOOR_OPENS, DOOR_CLOSES, BUMP, DOOR_OPENS]),
    ],
)
def test_messages_by_hand(actions, said):
    env = passage()
    assert [env.step(action)[4]["message"] for action in actions] == said


def test_the_door_stays_locked_without_the_key():
    env = passage()
    env.set_state(col=2)
    for action in (TOGGLE, FORWARD):
        info = env.step(action)[4]
        assert (info["message"], info["cell"]) == (DOOR_LOCKED, 10 + 2)


def test_the_first_message_is_of_a_key_ahead():
    envs = KeyRoomVector(num_envs=2000, distractor_messages=30)
    obs, info = envs.reset(seed=0)
    s, lanes = envs.get_state(), np.arange(2000)
    down, right = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])[s["direction"]].T
    ahead = s["grid"][lanes, s["row"] + down, s["col"] + right] == YELLOW_KEY
    assert 10 < ahead.sum() < 100
    np.testing.assert_array_equal(obs["message"], np.where(ahead, KEY_AHEAD, NOTHING))
    np.testing.assert_array_equal(info["message"], obs["message"])


def test_distractors_come_in_half_of_the_silent_steps():
    envs = KeyRoomVector(num_envs=6000, distractor_messages=30)
    assert envs.single_observation_space["message"].n == len(envs.env.messages) == 8 + 30
    obs, _ = envs.reset(seed=0)
    silent = obs["message"] == NOTHING
    obs, *_ = envs.step(np.full(6000, DONE))
    assert np.all(obs["message"][~silent] == KEY_AHEAD)
    heard = obs["message"][silent]
    assert set(heard.tolist()) == {NOTHING, *range(8, 38)}
    assert stats.binomtest(int((heard > 7).sum()), len(heard), 0.5).pvalue > 1e-3
    assert stats.chisquare(np.bincount(heard[heard > 7] - 8, minlength=30)).pvalue > 1e-3


def test_a_locked_room_in_a_room(layouts):
    sides, sizes, corners = set(), set(), set()
    for state in layouts:
        grid = state["grid"]
        inner = np.argwhere(np.isin(grid[1:-1, 1:-1], (GREY_WALL, LOCKED_DOOR))) + 1
        (top, left), (bottom, right) = inner.min(0), inner.max(0)
        assert min(top, left) >= 2 and max(bottom, right) <= 7  # a way round it on all sides
        inside = np.zeros_like(grid, bool)
        inside[top + 1 : bottom, left + 1 : right] = True
        assert len(inner) == 2 * (bottom - top + right - left)  # nothing but the border
        ((row, col),) = np.argwhere(grid == LOCKED_DOOR)
        side = [col == right, row == bottom, col == left, row == top]
        assert sum(side) == 1
        sides.add(side.index(True))
        sizes.add((bottom - top + 1, right - left + 1))
        corners.add((top, left))
        assert inside[grid == GREEN_GOAL].tolist() == [True]
        assert inside[grid == YELLOW_KEY].tolist() == [False]
        assert inside[grid == MONSTER].tolist() == [False]
        assert not inside[state["row"], state["col"]] and grid[state["row"], state["col"]] == EMPTY
    assert sides == {EAST, SOUTH, WEST, NORTH}
    assert sizes == {(4, 4), (4, 5), (5, 4), (5, 5)}
    assert corners == {(i, j) for i in (2, 3, 4) for j in (2, 3, 4)}


def test_every_layout_can_be_solved_in_time(layouts):
    for state in layouts:
        assert ndimage.label(state["grid"] & 15 != WALL)[1] == 1  # all that isn't wall hangs together
        assert len(np.argwhere(state["grid"] & 15 == GOAL)) == 1
    env = KeyRoom()
    for seed in range(5):
        env.reset(seed=seed)
        path = env.shortest_path()
        assert 5 <= len(path) < 60 < env.time_limit == 200
        assert {PICKUP, TOGGLE} <= set(path)
    assert shortest_paths(env).steps[0] == len(path)


def test_monsters_step_to_each_side_alike_and_stay_where_it_is_taken():
    envs = KeyRoomVector(num_envs=4000, num_monsters=1)
    envs.reset(seed=0)
    rows = "##########", "#........#", "#........#", "#........#", "#...M....#"
    grid = drawn(envs.env, *rows, M=MONSTER)
    grid[5:9, 1:9] = EMPTY
    envs.set_state(grid=grid, monsters=(4, 4), row=4, col=5, direction=NORTH)
    envs.step(np.full(4000, DONE))
    state = envs.get_state()
    lanes, row, col = np.nonzero(state["grid"] == MONSTER)
    assert lanes.tolist() == list(range(4000))
    np.testing.assert_array_equal(state["monsters"][:, 0], np.column_stack([row, col]))
    counts = [int(((row == r) & (col == c)).sum()) for r, c in ((3, 4), (5, 4), (4, 3), (4, 4))]
    assert sum(counts) == 4000  # the agent stands to the east
    assert stats.chisquare(counts).pvalue > 1e-3


def test_monsters_cannot_be_picked_up_and_stay_outside():
    envs = KeyRoomVector(num_envs=50, num_monsters=3, autoreset_mode="SameStep")
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    moved = 0
    for _ in range(150):
        before = envs.get_state()
        envs.step(rng.choice([TURN_LEFT, FORWARD, PICKUP], 50))
        state = envs.get_state()
        balls = state["grid"] == MONSTER
        assert np.all(balls.sum((1, 2)) == 3)
        assert not np.any(state["carrying"] == MONSTER)
        lanes = np.arange(50)[:, None]
        assert balls[lanes, state["monsters"][..., 0], state["monsters"][..., 1]].all()
        steps = np.abs(state["monsters"] - before["monsters"])[state["t"] > 0].sum(2)
        assert steps.max() <= 1
        moved += steps.sum()
    assert moved > 50 * 150
    env = KeyRoom(num_monsters=1)
    env.reset(seed=0)
    env.set_state(grid=drawn(env, "#####", "#.M##", M=MONSTER), monsters=(1, 2), row=1, col=1, direction=EAST)
    env.step(PICKUP)
    assert env.get_state()["carrying"] == EMPTY


def test_contexts_fix_everything():
    envs = KeyRoomVector(num_envs=60, num_contexts=3, num_monsters=1)
    _, info = envs.reset(seed=0)
    s = envs.get_state()
    episodes = {(c, g.tobytes(), *pose) for c, g, *pose in zip(info["context"], s["grid"], s["row"], s["col"], s["direction"])}
    assert sorted(episode[0] for episode in episodes) == [0, 1, 2]
    assert len(np.unique(s["rng"])) == 60  # what happens in them differs
    free = KeyRoomVector(num_envs=60, num_monsters=1)
    free.reset(seed=0)
    assert len({g.tobytes() for g in free.get_state()["grid"]}) == 60


def test_the_image_alone_leaves_the_message_to_the_info():
    env = KeyRoom(observation="image")
    assert env.observation_space.shape == (7, 7, 3)
    assert "message" in env.metrics.fields


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=7), r"size must be an integer in \[8, 255\], got 7"),
        (dict(distractor_messages=-1), r"distractor_messages must be an integer in \[0, 1000\], got -1"),
        (dict(num_monsters=17), r"num_monsters must be an integer in \[0, 16\], got 17"),
        (dict(max_steps=None), "max_steps must be an integer in .*, got None"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        KeyRoom(**kwargs)
