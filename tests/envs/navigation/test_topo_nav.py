import collections
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.navigation.explorers import Frontier, Oracle, Random, play
from explore_gym.envs.navigation.topo_nav import FORWARD, LEFT, RIGHT, STAY, TopoNav, TopoNavVector
from explore_gym.envs.navigation.valleys import BLOCKED, CLEARING, DEAD_END, GATE, GOAL, LANDMARK, ROUGH, VALLEY

SMALL = dict(size=16, tiles=3, clearings=(1, 1), dead_ends=1, dead_end_depth=8, density=(0.15, 0.25), landmarks=(4, 8))
SMALL |= dict(goal_distance=12, late_step=50, late_passes=1, max_steps=200)
CALM = dict(rough=0.0, drift=0.0, miss=0.0, false_positives=0.0, position_noise=0.0)
EAST, SOUTH, WEST, NORTH = range(4)
LANES = 4000


def assert_frequency(happened, probability):
    """At the 0.1 % level of a binomial test."""
    happened = np.asarray(happened)
    assert stats.binomtest(int(happened.sum()), happened.size, probability).pvalue > 0.001


@pytest.fixture(scope="module")
def maps():
    """States of 150 maps of the default size."""
    envs = TopoNavVector(num_envs=150)
    envs.reset(seed=0)
    return envs, envs.get_state()


def moves_from(free, start):
    """Moves to every cell from some cells, int64 like `free`, -1 where no way leads: written without the kernels."""
    moves = np.full(free.shape, -1)
    queue = collections.deque(start)
    for cell in start:
        moves[cell] = 0
    while queue:
        row, col = queue.popleft()
        for cell in ((row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)):
            if free[cell] and moves[cell] < 0:
                moves[cell] = moves[row, col] + 1
                queue.append(cell)
    return moves


def grid(envs, field):
    """A field of cells as (..., rows, columns), with its margin."""
    stride = int(envs.env.params["stride"][0])
    return field.reshape(*field.shape[:-1], stride, stride)


def place(envs, cell):
    return divmod(int(cell), int(envs.env.params["stride"][0]))


def test_all_is_connected_and_obstacles_cover_what_they_should(maps):
    envs, states = maps
    ground = grid(envs, states["ground"])
    inner = ground[:, 8:-8, 8:-8] & BLOCKED
    assert (ground[:, :8] & BLOCKED).all() and (ground[:, :, -8:] & BLOCKED).all()
    assert ((inner.mean((1, 2)) >= 0.1) & (inner.mean((1, 2)) <= 0.2)).all()
    assert (inner.sum((1, 2)) == states["blocked"]).all()
    for state, cells in zip(states, ground):
        moves = moves_from(cells & BLOCKED == 0, [place(envs, state["start"])])
        assert ((moves >= 0) == (cells & BLOCKED == 0)).all()
        assert (grid(envs, state["from_start"]) == moves).all()
        assert (grid(envs, state["distances"]) == moves_from(cells & BLOCKED == 0, [place(envs, state["targets"][0])])).all()


def test_the_goal_is_sixty_moves_away_and_neither_it_nor_the_start_lies_in_a_dead_end(maps):
    envs, states = maps
    lines = np.searchsorted(np.arange(1, 8) * 8, np.arange(64), side="right")  # tiles of rows and columns
    for state in states:
        goal, start = place(envs, state["targets"][0]), place(envs, state["start"])
        assert grid(envs, state["ground"])[goal] & GOAL
        assert not (grid(envs, state["ground"])[goal] | grid(envs, state["ground"])[start]) & GATE  # passes may close
        assert state["shortest_path"] == grid(envs, state["from_start"])[goal] >= 60
        for row, col in (goal, start):
            assert state["roles"].reshape(8, 8)[lines[row - 8], lines[col - 8]] < DEAD_END


def test_maps_have_three_to_six_clearings_without_obstacles(maps):
    _, states = maps
    counts = []
    for state in states:
        numbers, sizes = np.unique(state["roles"][(state["roles"] > VALLEY) & (state["roles"] < DEAD_END)], return_counts=True)
        assert (sizes == 4).all()
        counts.append(len(numbers))
    assert set(counts) == {3, 4, 5, 6}
    clearing = states["ground"] & CLEARING > 0
    assert not (states["ground"][clearing] & BLOCKED).any()
    assert (clearing.sum(1) >= 150 * np.array(counts)).all()  # of ellipses, pi / 4 * 15 * 15 = 176 cells


def test_two_dead_ends_are_at_least_twenty_moves_deep(maps):
    """Without the cells of its entrance each is cut off, and its far end is as many moves away from them."""
    envs, states = maps
    depths = []
    for state in states:
        free = grid(envs, state["ground"]) & BLOCKED == 0
        for mouth in state["mouths"]:
            entrance = [place(envs, cell) for cell in mouth if cell >= 0]
            assert 2 <= len(entrance) <= 4
            closed = free.copy()
            closed[tuple(np.array(entrance).T)] = False
            inside = closed & (moves_from(closed, [place(envs, state["start"])]) < 0)
            assert 100 <= inside.sum() <= 4 * 9 * 9
            depths.append(moves_from(inside | ~closed & free, entrance)[inside].max())
    assert min(depths) >= 20
    assert len(depths) == 300


def test_landmarks_of_few_types_stand_on_free_cells(maps):
    envs, states = maps
    assert set(states["num_landmarks"]) <= set(range(15, 31)) and len(set(states["num_landmarks"])) > 8
    aliased = []
    for state in states:
        cells = state["landmarks"][: state["num_landmarks"]]
        assert len(set(cells)) == state["num_landmarks"] == (state["ground"] & LANDMARK > 0).sum()
        assert not (state["ground"][cells] & (BLOCKED | GATE | GOAL)).any()
        assert [place(envs, cell) for cell in cells] == [
            (row + 8, col + 8) for row, col in state["places"][: state["num_landmarks"]].tolist()
        ]
        aliased.append(len(cells) - len(set(state["types"][: len(cells)])))
    assert min(aliased) >= 15 - 8


def test_rough_ground_covers_a_tenth(maps):
    envs, states = maps
    rough = grid(envs, states["ground"])[:, 8:-8, 8:-8] & ROUGH > 0
    assert ((rough.mean((1, 2)) >= 0.1) & (rough.mean((1, 2)) < 0.11)).all()


def test_late_obstacles_close_passes_and_cut_nothing_off(maps):
    envs, _ = maps
    envs.reset(seed=0)
    before = envs.get_state()
    assert (before["num_closing"] > 0).mean() > 0.9
    envs.set_state(t=np.full(150, 199))
    envs.step(np.full(150, STAY))
    assert (envs.get_state()["ground"] == before["ground"]).all()  # at step 200
    on_a_pass = before["closing_cells"][:, 0].astype(np.int32)
    has = before["num_closing"] > 0
    envs.set_state(cell=np.where(has, on_a_pass, before["cell"]))
    envs.step(np.full(150, STAY))
    after = envs.get_state()
    for lane, (old, new) in enumerate(zip(before, after)):
        closed = np.flatnonzero((old["ground"] ^ new["ground"]) & BLOCKED)
        assert set(closed) == set(old["closing_cells"][int(has[lane]) : old["num_closing"]])  # all but the agent's
        assert new["blocked"] == old["blocked"] + len(closed)
        free = grid(envs, new["ground"]) & BLOCKED == 0
        moves = moves_from(free, [place(envs, new["targets"][0])])
        assert ((moves >= 0) == free).all()
        assert (grid(envs, new["distances"]) == moves).all()
    assert (after["distances"] > before["distances"]).any(1).mean() > 0.5  # a way has become longer


def test_maps_to_train_and_to_test_on_are_never_the_same():
    for split, odd in (("train", 0), ("test", 1)):
        envs = TopoNavVector(num_envs=300, split=split, **SMALL)
        envs.reset(seed=1)
        assert (envs.get_state()["blocked"] % 2 == odd).all()


def test_contexts_are_a_fixed_set_of_episodes():
    train = TopoNavVector(num_envs=40, num_contexts=3, layout_seed=5, **SMALL)
    names, found = ("ground", "cell", "heading", "targets", "landmarks", "types", "downhill"), {}
    for seed in (0, 100):
        _, info = train.reset(seed=seed)
        for context, state in zip(info["context"], train.get_state()):
            key = tuple(state[name].tobytes() for name in names)
            assert found.setdefault(context, key) == key
    assert len(set(found.values())) == 3
    other = TopoNavVector(num_envs=40, num_contexts=3, layout_seed=6, **SMALL)
    other.reset(seed=0)
    assert not {state["ground"].tobytes() for state in other.get_state()} & {key[0] for key in found.values()}


@pytest.mark.slow  # each size is compiled anew
@pytest.mark.parametrize(
    "kwargs",
    [
        dict(size=26, tiles=6, clearings=(2, 3), dead_ends=1, dead_end_depth=20, density=(0.0, 0.3), goal_distance=26),
        dict(size=64, tiles=8, clearings=(6, 6), dead_ends=4, dead_end_depth=40, density=(0.29, 0.3), goal_distance=64),
        dict(size=64, tiles=1, clearings=(0, 0), dead_ends=0, density=(0.0, 0.1), goal_distance=64),
    ],
)
def test_maps_at_the_limits_of_the_arguments_are_drawn(kwargs):
    envs = TopoNavVector(num_envs=20, **kwargs)
    _, info = envs.reset(seed=0)
    assert (info["shortest_path"] >= kwargs["goal_distance"]).all()
    states = envs.get_state()
    assert ((states["roles"] >= DEAD_END).sum(1) >= kwargs["dead_ends"]).all()


def exact_rays(env):
    """For each ray of the view the cells that it crosses, in order: exact intersections with squares, in rational numbers.

    Squares are larger by 1e-9, so that a ray through a corner touches the cells beside it.
    """
    angle, half = math.radians(120), Fraction(1, 2) + Fraction(1, 10**9)
    rays = []
    for k in range(68):
        direction = angle * ((k + 0.5) / 68 - 0.5)
        ahead, right = Fraction(math.cos(direction)), Fraction(math.sin(direction))
        path = []
        for a, r in itertools.product(range(9), range(-9, 10)):
            low, high = Fraction(0), Fraction(8)
            for centre, speed in ((a, ahead), (r, right)):
                ends = sorted(((centre - half) / speed, (centre + half) / speed))
                low, high = max(low, ends[0]), min(high, ends[1])
            if low <= high:
                path.append((a + abs(r), a, r))
        rays.append([cell[1:] for cell in sorted(path)])
    return rays


def test_the_view_is_that_of_exact_rays(maps):
    """All cells of 60 views, by a reference that intersects lines and squares in rational numbers."""
    envs, states = maps
    rays = exact_rays(envs.env)
    assert {cell for ray in rays for cell in ray} == set(map(tuple, envs.env.cone.tolist()))
    ahead = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (rows, columns) by heading
    hidden = 0
    for state in states[:60]:
        ground, (row, col), heading = grid(envs, state["ground"]), place(envs, state["cell"]), int(state["heading"])
        down, east = ahead[heading]
        expected = np.zeros(ground.shape, bool)
        for ray in rays:
            for a, r in ray:
                cell = row + a * down + r * east, col + a * east - r * down
                expected[cell] = True
                if ground[cell] & BLOCKED:
                    break
        seen = grid(envs, envs.env.in_view(state["visible"], state["cell"], heading))
        assert (seen == expected).all()
        hidden += 93 - seen.sum()
    assert hidden > 1000


def number_of(row, col):
    return (row + 8) * 32 + col + 8


def field(num_envs=1, ground=None, cell=(8, 8), heading=EAST, goal=(0, 15), **kwargs):
    """An open field of 16x16 cells with these obstacles and rough cells: lists of (row, column)."""
    envs = TopoNavVector(num_envs=num_envs, autoreset_mode="Disabled", **{**SMALL, **CALM, **kwargs})
    envs.reset(seed=0)
    cells = np.full((32, 32), BLOCKED, np.uint8)
    cells[8:-8, 8:-8] = 0
    for bits, places in (ground or {}).items():
        for row, col in places:
            cells[row + 8, col + 8] |= bits
    cells[goal[0] + 8, goal[1] + 8] |= GOAL
    fields = dict(ground=cells.reshape(-1), cell=number_of(*cell), start=number_of(*cell), heading=heading, num_landmarks=0)
    fields |= dict(targets=[number_of(*goal)], odometry=[0, 0])
    envs.set_state(**{key: np.repeat(np.array(value)[None], num_envs, 0) for key, value in fields.items()})
    return envs


def seen(obs, lane=0):
    """The planes seen, obstacle, rough, goal of a lane by cells (ahead, right): a function."""
    cone = obs["cone"][lane]
    return lambda ahead, right: cone[:, 8 - ahead, 7 + right].tolist()


def test_actions_move_and_turn_relative_to_the_heading():
    envs = field()
    for action, heading, odometry in (
        (FORWARD, EAST, [1, 0]),
        (RIGHT, SOUTH, [1, 0]),
        (FORWARD, SOUTH, [1, 1]),
        (LEFT, EAST, [1, 1]),
        (LEFT, NORTH, [1, 1]),
        (FORWARD, NORTH, [1, 0]),
        (STAY, NORTH, [1, 0]),
        (LEFT, WEST, [1, 0]),
        (FORWARD, WEST, [0, 0]),
    ):
        obs, *_, info = envs.step([action])
        assert obs["heading"][0] == heading
        assert obs["odometry"][0].tolist() == odometry
        assert obs["last"][0].tolist() == [action == FORWARD, False]
        assert info["cell"][0] == (8 + odometry[1]) * 16 + 8 + odometry[0]
    assert obs["clock"][0] == pytest.approx(9 / 200)
    assert (info["path_length"][0], info["visited"][0]) == (4, 4)


def test_obstacles_and_the_edge_stop_the_agent():
    envs = field(ground={BLOCKED: [(8, 9)]})
    obs, *_, info = envs.step([FORWARD])
    assert obs["last"][0].tolist() == [False, True]
    assert (info["cell"][0], info["collisions"][0], info["path_length"][0]) == (8 * 16 + 8, 1, 0)
    envs = field(cell=(0, 5), heading=NORTH)
    obs, *_, info = envs.step([FORWARD])
    assert obs["last"][0].tolist() == [False, True]
    assert seen(obs)(1, 0) == [1, 1, 0, 0]  # the edge looks like an obstacle


def test_rough_ground_holds_the_agent_up():
    envs = field(LANES, ground={ROUGH: [(8, 9)]}, rough_success=0.7)
    obs, *_, info = envs.step(np.full(LANES, FORWARD))
    assert_frequency(obs["last"][:, 0], 0.7)
    assert not obs["last"][:, 1].any()
    assert (info["rough_failures"] == 1 - obs["last"][:, 0]).all()
    assert (info["cell"] == 8 * 16 + 8 + obs["last"][:, 0].astype(int)).all()
    obs, *_ = envs.step(np.full(LANES, FORWARD))
    moved = obs["odometry"][:, 0] == 2
    assert obs["last"][moved, 0].all()  # leaving rough ground always succeeds


def test_the_agent_skids_downhill_and_nothing_tells():
    envs = field(LANES, drift=0.2)
    envs.set_state(downhill=np.arange(LANES) % 4)
    obs, *_, info = envs.step(np.full(LANES, FORWARD))
    skidded = info["skids"] == 1
    assert_frequency(skidded, 0.2)
    downhill = np.array([1, 16, -1, -16])[np.arange(LANES) % 4]
    assert (info["cell"] == 8 * 16 + 9 + skidded * downhill).all()
    assert (obs["odometry"] == [1, 0]).all() and (obs["last"] == [1, 0]).all()
    assert (info["drift"] == skidded).all()
    assert (obs["goal"] == [6, -8]).all()  # as it would be without the skid
    envs = field(ground={BLOCKED: [(9, 9)]}, drift=1.0)
    envs.set_state(downhill=np.array([SOUTH]))
    assert envs.step([FORWARD])[-1]["skids"][0] == 0


def test_the_goal_is_told_by_direction_and_ends_the_episode_with_a_reward_of_one():
    envs = field(goal=(6, 10))
    obs, reward, terminated, *_, info = envs.step([LEFT])
    assert obs["goal"][0].tolist() == [2, 2]  # north and east
    assert seen(obs)(2, 2) == [1, 0, 0, 1]
    assert (reward[0], terminated[0], info["success"][0], info["spl"][0]) == (0.0, False, False, 0.0)
    envs.set_state(shortest_path=np.array([4]))
    for action in (FORWARD, RIGHT, FORWARD, FORWARD, LEFT):
        obs, reward, terminated, *_ = envs.step([action])
        assert (reward[0], terminated[0]) == (0.0, False)
    obs, reward, terminated, *_, info = envs.step([FORWARD])
    assert (reward[0], terminated[0], info["success"][0], info["spl"][0]) == (1.0, True, True, 1.0)
    assert obs["goal"][0].tolist() == [0, 0]
    envs.set_state(path_length=np.array([16]), done=np.array([False]))
    assert envs.step([STAY])[-1]["spl"][0] == 0.25


def test_the_view_shows_what_lies_in_the_cone_in_front():
    envs = field(ground={BLOCKED: [(8, 11)], ROUGH: [(9, 10), (8, 13)]})
    obs, *_ = envs.step([STAY])
    at = seen(obs)
    assert at(0, 0) == [1, 0, 0, 0]
    assert at(2, 1) == [1, 0, 1, 0]  # rough, a cell to the right
    assert at(3, 0) == [1, 1, 0, 0]  # an obstacle,
    assert at(5, 0) == [0, 0, 0, 0]  # and what it hides
    assert at(0, 2) == [0, 0, 0, 0] and at(3, 7) == [0, 0, 0, 0]  # outside the cone: 6.5 cells aside are 3.75 ahead, at least
    assert (
        at(4, 7) == [1, 0, 0, 0] and at(5, 7) == [1, 0, 0, 0] and at(6, 7) == [0, 0, 0, 0]
    )  # entered after 7.6 to 8 cells of a ray
    obs, *_ = envs.step([LEFT])
    assert seen(obs)(0, 0) == [1, 0, 0, 0] and obs["cone"][0, 2].sum() == 0


def put_landmark(envs, row, col, kind):
    count = envs.num_envs
    states = envs.get_state()
    landmarks, places, types = states["landmarks"], states["places"], states["types"]
    landmarks[:, 0], places[:, 0], types[:, 0] = number_of(row, col), (row, col), kind
    envs.set_state(num_landmarks=np.full(count, 1), landmarks=landmarks, places=places, types=types)


def test_detections_have_noise_and_misses():
    envs = field(LANES, miss=0.2, position_noise=0.5)
    put_landmark(envs, 6, 13, 3)
    obs, *_, info = envs.step(np.full(LANES, STAY))
    rows = obs["detections"][:, 0]
    there = rows[:, 0] > 0.0
    assert_frequency(there, 0.8)
    assert (info["detected"][:, 0] == np.where(there, 0, -2)).all()
    assert (info["detected"][:, 1:] == -2).all() and not obs["detections"][:, 1:].any()
    assert not rows[~there].any()
    assert stats.kstest(rows[there, 0], stats.uniform(0.5, 0.5).cdf).pvalue > 0.001
    assert stats.kstest(rows[there, 1], stats.norm(5.0, 0.5).cdf).pvalue > 0.001  # ahead
    assert stats.kstest(rows[there, 2], stats.norm(-2.0, 0.5).cdf).pvalue > 0.001  # to the left
    assert (rows[there, 3:] == np.eye(8)[3]).all()
    obs, *_ = envs.step(np.full(LANES, LEFT))
    assert not obs["detections"].any()  # 2 ahead and 5 to the right: 68 degrees


def test_what_an_obstacle_hides_is_not_detected():
    envs = field(ground={BLOCKED: [(8, 10)]})
    put_landmark(envs, 8, 12, 3)
    obs, *_ = envs.step([STAY])
    assert not obs["detections"].any()


def test_false_detections_lie_in_view_and_are_counted():
    envs = field(LANES, false_positives=0.3)
    obs, *_, info = envs.step(np.full(LANES, STAY))
    there = obs["detections"][:, 0, 0] > 0.0
    assert_frequency(there, 0.3)
    assert (info["detected"][:, 0] == np.where(there, -1, -2)).all()
    assert stats.kstest(obs["detections"][there, 0, 0], stats.uniform(0.2, 0.5).cdf).pvalue > 0.001
    for lane in np.flatnonzero(there)[:200]:
        ahead, right = np.round(obs["detections"][lane, 0, 1:3]).astype(int)
        assert seen(obs, lane)(ahead, right)[0] == 1
    types = obs["detections"][there, 0, 3:].sum(0)
    assert stats.chisquare(types).pvalue > 0.001
    assert (info["false_detections"] - there).mean() == pytest.approx(0.3, abs=0.05)  # one more draw: that of the start
    envs = field(LANES, false_positives=0.3, position_noise=0.5)
    obs, *_ = envs.step(np.full(LANES, STAY))
    errors = obs["detections"][:, 0, 1:3][obs["detections"][:, 0, 0] > 0.0]
    errors -= np.round(errors)  # by which true ones must not be told from false ones
    assert stats.kstest(errors.ravel(), wrapped_normal).pvalue > 0.001


def wrapped_normal(errors, deviation=0.5):
    """Distribution function of a normal error less the nearest whole number, on [-0.5, 0.5]."""
    return sum(stats.norm.cdf(k + errors, 0, deviation) - stats.norm.cdf(k - 0.5, 0, deviation) for k in range(-6, 7))


def test_nothing_hidden_is_observed():
    """Other ground, landmarks, skids and metrics out of sight give the same observation."""
    envs = field(2)
    put_landmark(envs, 8, 2, 1)
    states = envs.get_state()
    cells = grid(envs, states["ground"])
    cells[1, 8:, 8:14] ^= BLOCKED  # behind the agent
    envs.set_state(
        ground=cells.reshape(2, -1),
        downhill=np.array([0, 1]),
        distances=states["distances"] + np.array([[0], [5]], np.int16),
        shortest_path=np.array([1, 2]),
        seen=np.array([3, 4]),
        skids=np.array([0, 7]),
        context=np.array([-1, 6]),
    )
    obs, *_ = envs.step([STAY, STAY])
    for key, value in obs.items():
        assert (value[0] == value[1]).all(), key


def test_coverage_is_the_share_of_free_cells_that_were_in_view():
    envs = TopoNavVector(num_envs=30, **SMALL)
    envs.reset(seed=3)
    states = envs.get_state()
    seen_so_far = np.zeros(states["ground"].shape, bool)
    rng = np.random.default_rng(0)
    for _ in range(30):
        states = envs.get_state()
        for lane, state in enumerate(states):
            seen_so_far[lane] |= envs.env.in_view(state["visible"], state["cell"], state["heading"])
        *_, info = envs.step(rng.integers(3, size=30))
        if info["success"].any():
            break
    for lane, state in enumerate(envs.get_state()):
        seen_so_far[lane] |= envs.env.in_view(state["visible"], state["cell"], state["heading"])
    free = states["ground"] & BLOCKED == 0
    assert info["coverage"] == pytest.approx((seen_so_far & free).sum(1) / free.sum(1))


def test_steps_in_dead_ends_are_counted():
    envs = TopoNavVector(num_envs=1, **SMALL)
    envs.reset(seed=0)
    state = envs.get_state()[0]
    tile = int(np.flatnonzero(state["roles"] >= DEAD_END)[0])
    params = envs.env.params[0]
    rows, cols = (range(params["first"][k], params["last"][k] + 1) for k in divmod(tile, 3))
    cell = next(c for c in ((r + 8) * 32 + k + 8 for r in rows for k in cols) if not state["ground"][c] & BLOCKED)
    envs.set_state(cell=np.array([cell]))
    assert [envs.step([STAY])[-1]["dead_end_steps"][0] for _ in range(3)] == [1, 2, 3]


@pytest.fixture(scope="module")
def features():
    envs = TopoNavVector(num_envs=60, scenario="feature", autoreset_mode="Disabled", targets=3, **{**SMALL, **CALM})
    obs, info = envs.reset(seed=0)
    return envs, obs, info, envs.get_state()


def test_the_landmarks_asked_for_are_all_of_their_type(features):
    _, obs, _, states = features
    assert "goal" not in obs
    assert (obs["target"] == states["target_type"]).all()
    for state in states:
        of_type = np.flatnonzero(state["types"][: state["num_landmarks"]] == state["target_type"])
        assert of_type.tolist() == [0, 1, 2]
        assert state["targets"].tolist() == state["landmarks"][:3].tolist()
    assert not (states["ground"] & GOAL).any()
    assert set(states["target_type"]) == set(range(8))


def test_the_shortest_tour_is_that_of_all_orders(features):
    envs, _, info, states = features
    for state, shortest in zip(states, info["shortest_path"]):
        free = grid(envs, state["ground"]) & BLOCKED == 0
        stops = [place(envs, cell) for cell in (state["start"], *state["targets"])]
        moves = [moves_from(free, [stop]) for stop in stops]
        orders = itertools.permutations((1, 2, 3))
        assert shortest == min(sum(moves[a][stops[b]] for a, b in zip((0, *order), order)) for order in orders)


def test_each_landmark_asked_for_is_rewarded_once_within_a_cell(features):
    envs, _, _, states = features
    envs.set_state(states)
    total = np.zeros(60)
    for target in range(3):
        ways, starts = [], []
        for state in envs.get_state():  # any two free cells in line, the second beside the landmark
            row, col = place(envs, state["targets"][target])
            free = grid(envs, state["ground"]) & BLOCKED == 0
            end, start, heading = next(
                ((row + a, col + b), (row + a - down, col + b - east), heading)
                for a, b in itertools.product((-1, 0, 1), repeat=2)
                for heading, (down, east) in enumerate(((0, 1), (1, 0), (0, -1), (-1, 0)))
                if free[row + a, col + b] and free[row + a - down, col + b - east]
            )
            starts.append(start[0] * 32 + start[1])
            ways.append(heading)
            assert max(abs(end[0] - row), abs(end[1] - col)) <= 1
        envs.set_state(cell=np.array(starts), heading=np.array(ways), done=np.zeros(60, bool))
        obs, reward, terminated, *_, info = envs.step(np.full(60, FORWARD))
        total += reward
        assert reward == pytest.approx((info["found"] - np.round(3 * (total - reward))) / 3)
        assert (info["found"] >= target + 1).all()
        assert obs["found"][:, 0] == pytest.approx(info["found"] / 3)
    assert total == pytest.approx(np.ones(60))
    assert terminated[info["found"] == 3].all() and info["success"].all()


def test_the_oracle_moves_to_count_a_landmark_that_it_starts_beside(features):
    envs, _, _, states = features
    envs.set_state(states)
    beside = []
    for state in states:
        (row, col), ground = place(envs, state["targets"][0]), grid(envs, state["ground"])
        around = (row, col + 1), (row + 1, col), (row, col - 1), (row - 1, col)
        beside.append(next(r * 32 + c for r, c in around if not ground[r, c] & BLOCKED))
    envs.set_state(cell=np.array(beside), found=np.full(60, 0b110))
    for lane in range(20):
        alone = envs.fork([lane])
        policy, rewards = Oracle(alone), []
        policy.reset(np.ones(1, bool))
        while not sum(rewards):
            rewards.append(alone.step(policy.act(None))[1][0])
        assert len(rewards) <= 3  # at most two turns and a move onto it


def test_distance_is_that_to_the_nearest_landmark_left(features):
    envs, _, info, states = features
    envs.set_state(states)
    for lane, state in enumerate(states[:20]):
        free = grid(envs, state["ground"]) & BLOCKED == 0
        moves = moves_from(free, [place(envs, cell) for cell in state["targets"]])
        assert info["distance"][lane] == moves[place(envs, state["cell"])]


def test_rough_ground_dominates_all_direct_paths_of_terrain():
    """At least half of the cells of every shortest path, by dynamic programming over the cells."""
    envs = TopoNavVector(num_envs=40, scenario="terrain", rough=0.0, **SMALL)
    _, info = envs.reset(seed=0)
    shares = []
    for state, length in zip(envs.get_state(), info["shortest_path"]):
        start, rough = grid(envs, state["from_start"]), grid(envs, state["ground"]) & ROUGH > 0
        to_goal = grid(envs, state["distances"])
        on_path = (start >= 0) & (start + to_goal == length)
        assert not rough[(start >= 0) & (start + to_goal > length + 4)].any()
        least = np.full(start.shape, np.inf)
        least[place(envs, state["start"])] = 0.0
        for row, col in sorted(np.argwhere(on_path & (start > 0)).tolist(), key=lambda cell: start[tuple(cell)]):
            before = [(row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)]
            least[row, col] = rough[row, col] + min(least[c] for c in before if start[c] == start[row, col] - 1)
        shares.append(least[place(envs, state["targets"][0])] / length)
    assert min(shares) >= 0.5
    assert np.mean(shares) > 0.7


def test_explorers_lie_between_random_and_the_oracle():
    scores = {}
    for policy in (Random, Frontier, Oracle):
        envs = TopoNavVector(num_envs=24, autoreset_mode="SameStep", split="test", **SMALL)
        returns, info = play(envs, policy(envs), seed=0)
        scores[policy] = returns.mean(), info["spl"].mean()
    assert scores[Random][0] < 0.7 < scores[Frontier][0]
    assert scores[Oracle][0] == 1.0
    assert scores[Random][1] + 0.2 < scores[Frontier][1] < scores[Oracle][1] + 0.01  # a skid can shorten the way


def test_explorers_find_landmarks_they_are_asked_for():
    scores = []
    for policy in (Frontier, Oracle):
        kwargs = {**SMALL, "drift": 0.0}
        envs = TopoNavVector(num_envs=16, autoreset_mode="SameStep", scenario="feature", targets=3, **kwargs)
        scores.append(play(envs, policy(envs), seed=0)[0].mean())
    assert scores[0] > 0.8 and scores[1] == pytest.approx(1.0)


def test_the_oracle_takes_the_fewest_steps():
    envs = field(ground={BLOCKED: [(row, 9) for row in range(6, 16)]}, goal=(8, 10))
    policy, actions = Oracle(envs), []
    policy.reset(np.ones(1, bool))
    while not envs.get_state()["done"][0]:
        actions.append(int(policy.act(None)[0]))
        envs.step([actions[-1]])
    assert actions == [LEFT, *[FORWARD] * 3, RIGHT, FORWARD, FORWARD, RIGHT, *[FORWARD] * 3]  # around the wall's upper end
    envs = field(ground={ROUGH: [(8, 9), (8, 10), (8, 11)]}, goal=(8, 12), rough_success=0.25)
    policy, actions = Oracle(envs), []
    policy.reset(np.ones(1, bool))
    while not envs.get_state()["done"][0]:
        actions.append(int(policy.act(None)[0]))
        envs.step([actions[-1]])
    assert len(actions) == 4 + 3 + 2  # 4 cells ahead, 3 turns and 2 cells aside, where straight on would take 1 + 3 / 0.25


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(scenario="maze"), "scenario must be one of goal, feature, terrain, got 'maze'"),
        (dict(split="valid"), "split must be one of train, test, got 'valid'"),
        (dict(size=15), r"size must be an integer in \[16, 128\], got 15"),
        (dict(tiles=0), r"tiles must be an integer in \[1, 16\], got 0"),
        (dict(clearings=(4, 3)), r"clearings must be \(least, most\), got \(4, 3\)"),
        (dict(clearings=5), r"clearings must be \(least, most\), got 5"),
        (dict(clearings=(3, 7)), r"clearings must be an integer in \[0, 6\], got 7"),
        (dict(dead_ends=5), r"dead_ends must be an integer in \[0, 4\], got 5"),
        (dict(tiles=2, clearings=(0, 0)), r"dead_ends must be an integer in \[0, 0\], got 2"),
        (dict(dead_end_depth=0), "dead_end_depth must be an integer"),
        (dict(dead_ends=4, dead_end_depth=60), "clearings and dead_ends must leave a fifth of the 64 tiles to valleys"),
        (dict(density=(0.1, 0.15)), r"density must end at 0\.1765 or above, to leave room for the ridges, got \(0\.1, 0\.15\)"),
        (dict(density=(0.1, 0.4)), r"density must be a number in \[0.0, 0.3\], got 0.4"),
        (dict(rough=0.7), "rough must be a number"),
        (dict(rough_success=0.0), "rough_success must be a number"),
        (dict(landmarks=(0, 101)), "landmarks must be an integer"),
        (dict(landmark_types=1), "landmark_types must be an integer"),
        (dict(targets=7), r"targets must be an integer in \[1, 6\], got 7"),
        (dict(scenario="feature", landmarks=(0, 9), targets=1), r"landmarks must be at least the 1 targets, got \(0, 9\)"),
        (dict(goal_distance=65), r"goal_distance must be an integer in \[1, 64\], got 65"),
        (dict(late_step=-1), "late_step must be an integer"),
        (dict(late_passes=9), "late_passes must be an integer"),
        (dict(view_range=13), "view_range must be an integer"),
        (dict(view_angle=181), "view_angle must be a number"),
        (dict(miss=1.1), "miss must be a number"),
        (dict(false_positives=-0.1), "false_positives must be a number"),
        (dict(position_noise=-1.0), "position_noise must be a number"),
        (dict(drift=2.0), "drift must be a number"),
        (dict(num_contexts=0), "num_contexts must be an integer"),
        (dict(layout_seed=-1), "layout_seed must be an integer"),
        (dict(max_steps=0), "max_steps must be an integer"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TopoNav(**kwargs)


def test_the_drawing_shows_map_path_landmarks_and_agent():
    envs = field(ground={BLOCKED: [(3, 4)], ROUGH: [(12, 2)]}, goal=(0, 15), render_mode="ansi")
    put_landmark(envs, 10, 12, 2)
    envs.set_state(trail=np.where(np.arange(201) == 0, 16 * 32 + 16, -1)[None].astype(np.int16))
    for action in (FORWARD, FORWARD, RIGHT, FORWARD):
        envs.step([action])
    rows = [row.ljust(16) for row in envs.env.render_state(envs.get_state()[0]).split("\n")]
    assert rows[8][8] == "S" and rows[8][9:11] == ".." and rows[9][10] == "v"
    assert (rows[3][4], rows[12][2], rows[10][12], rows[0][15]) == ("t", "~", "c", "G")
    assert any("step 4" in row for row in rows)
