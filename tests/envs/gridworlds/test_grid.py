"""The grid core against hand-worked cases and against the minigrid package."""

import inspect

import numpy as np
import pytest
from gymnasium import spaces
from minigrid.core import constants, world_object
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.minigrid_env import MiniGridEnv
from scipy import stats

from explore_gym.envs.engine import KernelVectorEnv, kernel, randint
from explore_gym.envs.gridworlds import grid as core
from explore_gym.envs.gridworlds.corridors import Corridors
from explore_gym.envs.gridworlds.four_rooms import FourRooms

SIZE = 9
EAST_CELL = (4, 5)  # ahead of an agent at (4, 4) that looks east
RED_KEY, BLUE_KEY, BALL = core.KEY, core.KEY | core.BLUE << 4, core.BALL | core.PURPLE << 4


def door(color, state):
    return core.cell(core.DOOR, color, state)


def make_state(size=SIZE, ahead=core.EMPTY, carrying=core.EMPTY, seed=0):
    """A walled empty grid, the agent in its middle looking east at `ahead`."""
    state = np.zeros(1, core.grid_state(size, size, 11)).view(np.recarray)[0]
    state.rng = seed
    core.clear(state)
    core.room(state, 0, 0, size, size)
    state.row, state.col, state.direction, state.carrying = size // 2, size // 2, core.EAST, carrying
    state.grid[size // 2, size // 2 + 1] = ahead
    return state


def make_params(view_size=7, see_through_walls=False):
    dtype = [("view_columns", np.int64, (view_size,)), ("see_through_walls", np.bool_), ("max_steps", np.int64)]
    return np.array([(np.arange(view_size), see_through_walls, 100)], np.dtype(dtype, align=True)).view(np.recarray)[0]


def image_of(params, state):
    v = len(params.view_columns)
    image = np.full((v, v, 3), 255, np.uint8)
    state.stale = True
    core.view(params, state, image.reshape(-1))
    return image


class Reference(MiniGridEnv):
    """Minigrid with the world of one of our states."""

    def __init__(self, size, view_size=7, see_through_walls=False):
        mission = MissionSpace(mission_func=lambda: "none")
        super().__init__(mission, size, agent_view_size=view_size, see_through_walls=see_through_walls, max_steps=100)

    def _gen_grid(self, width, height):
        self.grid, self.agent_pos, self.agent_dir = Grid(width, height), (1, 1), 0

    def load(self, state):
        for row, col in np.ndindex(state.grid.shape):
            self.grid.set(col, row, as_object(int(state.grid[row, col])))
        self.agent_pos, self.agent_dir = (int(state.col), int(state.row)), int(state.direction)
        self.carrying, self.step_count = as_object(int(state.carrying)), 0


def as_object(code):
    thing = world_object.WorldObj.decode(code & 15, code >> 4 & 7, code >> 7 & 3)
    if isinstance(thing, world_object.Box):
        thing.contains = as_object(int(core.unbox(code)))
    return thing


def random_cells(rng, shape, empty):
    """Random cell codes, a fraction `empty` of them empty."""
    colors, states = rng.integers(0, 6, shape), rng.integers(0, 3, shape)
    kinds = rng.choice([core.WALL, core.FLOOR, core.DOOR, core.KEY, core.BALL, core.BOX, core.GOAL, core.LAVA], shape)
    codes = np.full(shape, core.EMPTY)
    for at in zip(*np.nonzero(rng.random(shape) > empty), strict=True):
        color = {core.GOAL: core.GREEN, core.LAVA: core.RED}.get(kinds[at], colors[at])
        if kinds[at] == core.BOX:
            codes[at] = core.box(color, rng.choice([core.EMPTY, RED_KEY, BLUE_KEY, BALL]))
        else:
            codes[at] = core.cell(kinds[at], color, states[at] if kinds[at] == core.DOOR else 0)
    return codes


def test_numbers_are_minigrids():
    for name, index in constants.OBJECT_TO_IDX.items():
        assert getattr(core, name.upper()) == index
    for name, index in constants.COLOR_TO_IDX.items():
        assert getattr(core, name.upper()) == index
        assert core.RGB[index] == tuple(constants.COLORS[name])
    for name, index in constants.STATE_TO_IDX.items():
        assert getattr(core, name.upper()) == index


@pytest.mark.parametrize("view_size", [3, 5, 7, 9, 11])
@pytest.mark.parametrize("see_through_walls", [False, True])
def test_view_is_minigrids_on_random_grids(view_size, see_through_walls):
    rng = np.random.default_rng(view_size)
    params, reference = make_params(view_size, see_through_walls), Reference(SIZE, view_size, see_through_walls)
    reference.reset()
    partly_hidden = 0
    for _ in range(300):
        state = make_state()
        state.grid = random_cells(rng, (SIZE, SIZE), empty=rng.choice([0.3, 0.6, 0.9]))  # also on the border
        state.row, state.col, state.direction = rng.integers(0, SIZE), rng.integers(0, SIZE), rng.integers(0, 4)
        state.carrying = rng.choice([core.EMPTY, RED_KEY, BALL])
        reference.load(state)
        image = image_of(params, state)
        np.testing.assert_array_equal(image, reference.gen_obs()["image"])
        partly_hidden += 1 < np.count_nonzero(image[:, :, 0]) < view_size**2
    assert partly_hidden > 30 or see_through_walls  # the random grids do hide something


def test_view_in_plain_python_equals_the_compiled_one():
    rng = np.random.default_rng(0)
    params = make_params()
    for _ in range(20):
        state = make_state()
        state.grid = random_cells(rng, (SIZE, SIZE), empty=0.7)
        state.row, state.col, state.direction = rng.integers(0, SIZE), rng.integers(0, SIZE), rng.integers(0, 4)
        inspect.unwrap(core.look)(params, state)
        np.testing.assert_array_equal(state.image[: 3 * 49].reshape(7, 7, 3).copy(), image_of(params, state))


def test_the_view_that_is_kept_is_never_stale():
    rng, params = np.random.default_rng(0), make_params()
    state = make_state(carrying=RED_KEY)
    changed = 0
    for _ in range(2000):
        if rng.random() < 0.02:
            core.place(state, rng.choice([RED_KEY, BALL, core.box(core.RED, BALL), door(core.RED, core.LOCKED)]), 1, 1, 7, 7)
        core.act(state, rng.integers(0, 7))
        kept = np.full((7, 7, 3), 255, np.uint8)
        changed += state.stale
        core.view(params, state, kept.reshape(-1))
        assert not state.stale
        np.testing.assert_array_equal(kept, image_of(params, state))
    assert 500 < changed < 1500


def test_light_passes_a_gap_and_spreads_behind_it():
    state = make_state()
    core.vertical_wall(state, 0, 5, SIZE)
    state.grid[4, 5] = core.EMPTY
    seen = image_of(make_params(3), state)[:, :, 0].T  # rows from the far end
    assert seen.tolist() == [[1, 1, 1], [2, 1, 2], [1, 1, 1]]
    state.grid[4, 5] = core.GREY_WALL
    assert image_of(make_params(3), state)[:, :, 0].T.tolist() == [[0, 0, 0], [2, 2, 2], [1, 1, 1]]


@pytest.mark.parametrize("empty", [0.5, 0.85])
def test_random_play_is_minigrids(empty):
    rng = np.random.default_rng(1)
    params, reference = make_params(), Reference(SIZE)
    reference.reset()
    entered, changed = set(), 0
    for _ in range(150):
        state = make_state()
        state.grid[1:-1, 1:-1] = random_cells(rng, (SIZE - 2, SIZE - 2), empty)
        state.grid[4, 4] = core.EMPTY
        state.carrying = rng.choice([core.EMPTY, RED_KEY, BLUE_KEY])
        reference.load(state)
        for t in range(1, 60):
            action, before = int(rng.choice(7, p=[0.1, 0.1, 0.3, 0.15, 0.15, 0.15, 0.05])), state.grid.copy()
            state.t = t
            kind = core.act(state, action)
            reward, terminated = core.arrive(params, state, kind)
            obs, expected_reward, expected_end, _, _ = reference.step(action)
            entered.add(kind)
            changed += not np.array_equal(before, state.grid)
            assert (reward, terminated) == (expected_reward, expected_end)
            assert (state.col, state.row, state.direction) == (*reference.agent_pos, obs["direction"])
            assert state.success == (expected_reward > 0)
            np.testing.assert_array_equal(image_of(params, state), obs["image"])
            if terminated:
                break
    assert entered == {core.UNSEEN, core.EMPTY, core.FLOOR, core.DOOR, core.GOAL, core.LAVA}
    assert changed > 200


@pytest.mark.parametrize(
    ("ahead", "enters"),
    [
        (core.EMPTY, True),
        (core.FLOOR | core.BLUE << 4, True),
        (core.GREEN_GOAL, True),
        (core.RED_LAVA, True),
        (core.GREY_WALL, False),
        (RED_KEY, False),
        (BALL, False),
        (core.BOX, False),
        ((core.DOOR, core.RED, core.OPEN), True),
        ((core.DOOR, core.RED, core.CLOSED), False),
        ((core.DOOR, core.RED, core.LOCKED), False),
    ],
)
def test_forward_enters_what_can_be_stood_on(ahead, enters):
    code = core.cell(*ahead) if isinstance(ahead, tuple) else ahead
    state = make_state(ahead=code)
    assert core.act(state, core.FORWARD) == (code & 15 if enters else core.UNSEEN)
    assert (state.row, state.col) == (EAST_CELL if enters else (4, 4))
    assert state.grid[EAST_CELL] == code
    assert state.visited == (1 if enters else 0)


def test_turns():
    state = make_state()
    headings = [int(state.direction) for _ in range(4) if core.act(state, core.TURN_RIGHT) == core.UNSEEN]
    assert headings == [core.SOUTH, core.WEST, core.NORTH, core.EAST]
    core.act(state, core.TURN_LEFT)
    assert state.direction == core.NORTH


@pytest.mark.parametrize("thing", [RED_KEY, BALL, core.box(core.GREEN, BLUE_KEY)])
def test_pick_up_carry_and_drop(thing):
    state = make_state(ahead=thing)
    core.act(state, core.PICKUP)
    assert (state.carrying, state.grid[EAST_CELL]) == (thing, core.EMPTY)
    core.act(state, core.PICKUP)
    assert state.carrying == thing
    core.act(state, core.DROP)
    assert (state.carrying, state.grid[EAST_CELL]) == (core.EMPTY, thing)


def test_full_hands_take_nothing_and_drop_only_on_empty_cells():
    state = make_state(ahead=RED_KEY, carrying=BALL)
    core.act(state, core.PICKUP)
    core.act(state, core.DROP)
    assert (state.carrying, state.grid[EAST_CELL]) == (BALL, RED_KEY)
    state = make_state(ahead=core.FLOOR, carrying=BALL)
    core.act(state, core.DROP)
    assert (state.carrying, state.grid[EAST_CELL]) == (BALL, core.FLOOR)


@pytest.mark.parametrize("ahead", [core.GREY_WALL, core.GREEN_GOAL, core.RED_LAVA, core.FLOOR, core.EMPTY])
def test_the_rest_cannot_be_picked_up_or_toggled(ahead):
    state = make_state(ahead=ahead)
    core.act(state, core.PICKUP)
    core.act(state, core.TOGGLE)
    core.act(state, core.DONE)
    assert (state.carrying, state.grid[EAST_CELL]) == (core.EMPTY, ahead)


@pytest.mark.parametrize(
    ("before", "carrying", "after"),
    [
        (core.CLOSED, core.EMPTY, core.OPEN),
        (core.OPEN, core.EMPTY, core.CLOSED),
        (core.LOCKED, core.EMPTY, core.LOCKED),
        (core.LOCKED, BLUE_KEY, core.LOCKED),
        (core.LOCKED, core.BALL, core.LOCKED),
        (core.LOCKED, RED_KEY, core.OPEN),
    ],
)
def test_toggle_red_door(before, carrying, after):
    state = make_state(ahead=door(core.RED, before), carrying=carrying)
    core.act(state, core.TOGGLE)
    assert state.grid[EAST_CELL] == door(core.RED, after)
    assert state.carrying == carrying  # the key stays in the hand


@pytest.mark.parametrize("contents", [core.EMPTY, RED_KEY, BLUE_KEY, BALL, core.BOX | core.YELLOW << 4])
def test_toggle_replaces_a_box_by_its_contents(contents):
    state = make_state(ahead=core.box(core.GREEN, contents))
    assert image_of(make_params(), state)[3, 5].tolist() == [core.BOX, core.GREEN, 0]
    core.act(state, core.TOGGLE)
    assert state.grid[EAST_CELL] == contents


def test_the_world_ends_in_walls():
    state = make_state()
    core.fill(state, 0, 0, SIZE, SIZE, core.EMPTY)
    state.row, state.col, state.direction, state.carrying = 0, 3, core.NORTH, BALL
    for action in (core.FORWARD, core.PICKUP, core.DROP, core.TOGGLE):
        assert core.act(state, action) == core.UNSEEN
    assert (state.row, state.col, state.carrying) == (0, 3, BALL)
    assert np.all(state.grid == core.EMPTY)


def test_room_and_walls():
    state = make_state(5)
    core.clear(state)
    core.room(state, 0, 0, 5, 4)
    core.horizontal_wall(state, 2, 2, 3)
    rows = ["".join("#" if code == core.GREY_WALL else "." for code in row) for row in state.grid]
    assert rows == ["####.", "#..#.", "#.###", "#..#.", "####."]


def test_place_is_uniform_over_free_cells_and_spares_the_agent():
    counts = np.zeros(16, int)
    for seed in range(3000):
        state = make_state(6, seed=seed * 2**20)
        state.row, state.col = 1, 1
        state.grid[2, 2:5] = core.GREY_WALL
        index = core.place(state, RED_KEY, 1, 1, 4, 4)
        assert state.grid[index // 6, index % 6] == RED_KEY
        counts[(index // 6 - 1) * 4 + index % 6 - 1] += 1
    free = np.ones(16, bool)
    free[[0, 5, 6, 7]] = False
    assert counts[~free].sum() == 0
    assert stats.chisquare(counts[free]).pvalue > 1e-3


def test_place_finds_the_last_free_cell_and_reports_a_full_rectangle():
    state = make_state(40)
    core.fill(state, 0, 0, 40, 40, core.GREY_WALL)
    state.grid[17, 31] = core.EMPTY
    assert core.place(state, BALL, 0, 0, 40, 40) == 17 * 40 + 31
    assert core.place(state, BALL, 0, 0, 40, 40) == -1
    assert core.place_agent(state, 0, 0, 40, 40) == -1
    assert np.count_nonzero(state.grid == BALL) == 1


def test_visits_count_distinct_cells():
    state = make_state()
    core.visit(state)
    for action in (core.FORWARD, core.FORWARD, core.TURN_LEFT, core.TURN_LEFT, core.FORWARD, core.FORWARD, core.FORWARD):
        core.act(state, action)
    assert state.visited == 4  # columns 4, 5, 6, then back to 3


def test_highlighted_cells_are_those_minigrid_highlights():
    env, reference = FourRooms(render_mode="rgb_array"), Reference(19)
    reference.reset()
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        env.set_state(row=rng.choice([1, 5, 8, 17]), col=rng.choice([1, 4, 12, 17]), direction=rng.integers(0, 4))
        state = env.get_state().view(np.recarray)[()]
        reference.load(state)
        lit = np.any(reference.get_frame(highlight=True, tile_size=8) != reference.get_frame(highlight=False, tile_size=8), 2)
        expected = lit.reshape(19, 8, 19, 8).any((1, 3))
        np.testing.assert_array_equal(env.visible(state), expected)


def test_frame_has_minigrids_colours():
    env = FourRooms(render_mode="rgb_array", agent_pos=(2, 2), goal_pos=(15, 15))
    env.reset(seed=0)
    frame = env.render()
    unit = frame.shape[0] // 19
    centre = lambda col, row: tuple(frame[row * unit + unit // 2, col * unit + unit // 2].tolist())
    assert frame.shape == (19 * unit, 19 * unit, 3)
    assert centre(15, 15) == (0, 255, 0)
    assert centre(0, 18) == (100, 100, 100)
    assert centre(12, 12) == (0, 0, 0)
    assert centre(2, 2)[0] > centre(2, 2)[1]  # the agent, red under the highlight


@kernel
def reset_spinner(params, state):
    word = core.begin(params, state)
    height, width = state.grid.shape
    core.room(state, 0, 0, height, width)
    state.row, state.col = 2, 1
    core.finish(state, word)


@kernel
def spin(params, state, action):
    """The action, then a turn at random."""
    core.act(state, action)
    state.direction = randint(state, 4)
    state.stale = True
    return 0.0, False


@kernel
def observe_spin(params, state, obs):
    obs.spin = 10 * state.direction + state.t


class Spinner(core.GridEnv):
    """A room of 5x6 cells in which every step ends with a turn at random."""

    dynamics = (reset_spinner, spin, core.observe, core.inform)

    def __init__(self, observation="dict", **options):
        super().__init__(
            state=core.grid_state(5, 6, 3), params={}, num_contexts=None, layout_seed=0, missions=("spin",), max_steps=20,
            agent_view_size=3, see_through_walls=False, observation=observation, render_mode=None, max_episode_steps=None,
            **options,
        )  # fmt: skip


OPTIONS = dict(position=True, step_counter=True, noise_channels=3, components=dict(spin=(spaces.Discrete(60), observe_spin)))


def test_the_options_parts_of_the_observation():
    env = Spinner(**OPTIONS)
    assert list(env.observation_space) == ["image", "direction", "mission", "spin", "position", "step", "noise"]
    assert env.observation_space["position"] == spaces.MultiDiscrete([6, 5])
    obs, _ = env.reset(seed=0)
    assert (obs["position"].tolist(), obs["step"].tolist(), obs["spin"]) == ([1, 2], [0.0], 0)
    for t, direction in ((1, core.EAST), (2, core.SOUTH)):
        env.set_state(direction=direction)
        obs, *_ = env.step(core.FORWARD)
        assert obs["position"].tolist() == [[2, 2], [2, 3]][t - 1]  # (column, row)
        assert obs["step"] == pytest.approx([t / 20])
        assert obs["spin"] == 10 * obs["direction"] + t
        assert env.observation_space.contains(obs)
    plain = Spinner()
    plain.reset(seed=0)
    plain.set_state(env.get_state())
    np.testing.assert_array_equal(plain.set_state()["image"], obs["image"])


def test_noise_is_uniform_and_new_in_every_step():
    envs = KernelVectorEnv(Spinner(**OPTIONS), 1500)
    seen = [envs.reset(seed=0)[0]["noise"]]
    seen += [envs.step(np.full(1500, core.DONE))[0]["noise"] for _ in range(3)]
    noise = np.concatenate(seen, 1)
    assert noise.shape == (1500, 12) and noise.dtype == np.float32
    assert 0.0 <= noise.min() < 0.001 < 0.999 < noise.max() < 1.0
    assert min(stats.kstest(column, "uniform").pvalue for column in noise.T) > 1e-4
    assert abs(np.corrcoef(noise.T) - np.eye(12)).max() < 0.12
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.1  # neighbouring lanes


def test_noise_is_new_where_the_dynamics_draw_nothing():
    env = Corridors(corridors=3, length=4, noise_channels=2)
    episodes = [[env.reset(seed=0)[0]["noise"], *(env.step(core.DONE)[0]["noise"] for _ in range(9))]]
    episodes.append([env.reset()[0]["noise"], *(env.step(core.DONE)[0]["noise"] for _ in range(9))])
    assert len(np.unique(episodes)) == 2 * 10 * 2


def test_noise_takes_nothing_from_the_dynamics_random_stream():
    noisy, plain = KernelVectorEnv(Spinner(**OPTIONS), 50), KernelVectorEnv(Spinner(), 50)
    noisy.reset(seed=0), plain.reset(seed=0)
    for actions in np.random.default_rng(0).integers(0, 7, (30, 50)):  # over the end of an episode
        noisy.step(actions), plain.step(actions)
        np.testing.assert_array_equal(noisy.get_state(), plain.get_state())
    first = noisy.set_state()["noise"]
    np.testing.assert_array_equal(noisy.set_state()["noise"], first)  # looking twice shows the same


def test_the_image_alone_holds_no_parts():
    for name, option in OPTIONS.items():
        part = {"step_counter": "step", "noise_channels": "noise", "components": "spin"}.get(name, name)
        with pytest.raises(ValueError, match=f"observation must be 'dict' to hold {part}, got 'image'"):
            Spinner(observation="image", **{name: option})
    with pytest.raises(ValueError, match=r"noise_channels must be an integer in \[0, 4096\], got -1"):
        Spinner(noise_channels=-1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(agent_view_size=6), r"agent_view_size must be an odd integer in \[3, 31\], got 6"),
        (dict(agent_view_size=33), "got 33"),
        (dict(observation="pixels"), "observation must be 'dict' or 'image', got 'pixels'"),
        (dict(max_steps=0), "max_steps must be an integer in .*, got 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FourRooms(**kwargs)
