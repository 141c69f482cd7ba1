import math
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest

from explore_gym.envs.navigation.hard_maze import HIGH, LOW, MAZES, RADIUS, HardMaze, HardMazeVector
from explore_gym.envs.navigation.maze_drivers import Oracle, WallFollower, drive

FORWARD = np.array([4.0, 4.0], np.float32)
DIRECTIONS = [(3, 4, 5), (4, 3, 5), (5, 12, 13), (12, 5, 13), (8, 15, 17), (1, 0, 1), (0, 1, 1)]  # of length 1, exactly
# First and last wall pixel of each run in rows of libfastsim's map, beside the border of three pixels
MAP_ROWS = {
    30: [(110, 127)],
    40: [(76, 94)],
    60: [(56, 60)],
    100: [(20, 26), (56, 60), (109, 118)],
    110: [(28, 34), (56, 60), (69, 77), (129, 137)],
    130: [(56, 60), (105, 113), (167, 176)],
    150: [(56, 60), (141, 149)],
    170: [(94, 99)],
    190: [(76, 82)],
}


def exact(value):
    return Fraction(str(value))


def root(value):
    return to_decimal(value).sqrt()


def exact_distance(walls, x, y, c, s):
    """The distance along a direction to what is within a wall's half thickness of its axis, by 50 digits: all crossings of all
    outlines are found, those off the outline are left out."""
    low, high, crossings = exact(LOW), exact(HIGH), []
    for place, speed in ((x, c), (y, s)):
        if speed:
            crossings += [to_decimal((side - place) / speed) for side in (low, high)]
    for x0, y0, x1, y1, half in (map(exact, wall) for wall in walls):
        ax, ay = x1 - x0, y1 - y0
        square = ax * ax + ay * ay
        across, speed = ax * (y - y0) - ay * (x - x0), ax * s - ay * c
        if speed:  # (across + speed t)^2 = half^2 square: the long sides
            for sign in (1, -1):
                t = (sign * root(half * half * square) - to_decimal(across)) / to_decimal(speed)
                along = to_decimal((x - x0) * ax + (y - y0) * ay) + t * to_decimal(c * ax + s * ay)
                if 0 <= along <= to_decimal(square):
                    crossings.append(t)
        for px, py in ((x - x0, y - y0), (x - x1, y - y1)):  # the round ends
            toward = px * c + py * s
            rest = toward * toward - px * px - py * py + half * half
            if rest >= 0:
                crossings += [-to_decimal(toward) + sign * root(rest) for sign in (1, -1)]
    return float(min(t for t in crossings if t >= 0))


def to_decimal(fraction):
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


def clearance(walls, points):
    """The distance of points (n, 2) to the nearest wall."""
    nearest = np.minimum(points - LOW, HIGH - points).min(1)
    for x0, y0, x1, y1, half in walls:
        axis = np.array([x1 - x0, y1 - y0])
        share = np.clip((points - (x0, y0)) @ axis / (axis @ axis), 0.0, 1.0)
        nearest = np.minimum(nearest, np.hypot(*(points - (x0, y0) - share[:, None] * axis).T) - half)
    return nearest


def free_places(walls, count, low, high, seed):
    """Places (count, 2) with a clearance in [low, high]."""
    places = np.random.default_rng(seed).uniform(LOW, HIGH, (40 * count, 2)).round(3)
    gap = clearance(walls, places)
    return places[(gap >= low) & (gap <= high)][:count]


def test_walls_lie_where_the_published_map_has_them():
    env = HardMaze()
    columns = 3.0 * np.arange(200) / 600.0
    for row, runs in MAP_ROWS.items():
        wall = np.flatnonzero(env.is_wall(columns, np.full(200, row / 200.0)))
        found = [(int(run[0]), int(run[-1])) for run in np.split(wall, np.flatnonzero(np.diff(wall) > 1) + 1)]
        assert (found[0], found[-1], len(found)) == ((0, 2), (197, 199), len(runs) + 2)
        assert np.abs(np.array(found[1:-1]) - runs).max() <= 1


def test_lasers_by_hand():
    env = HardMaze()
    env.reset(seed=0)
    assert env.set_state(x=60.0, y=400.0, theta=math.pi)[1] == pytest.approx(0.525)  # to the border at 7.5
    assert env.set_state(x=250.0, y=200.0)[1] == pytest.approx(0.685)  # to the upright wall's side at 174 + 7.5
    assert env.set_state(x=174.0, y=500.0, theta=-math.pi / 2)[1] == pytest.approx(0.4125)  # to its end at 451.25 + 7.5
    ahead_left, ahead, ahead_right, *_ = env.set_state(x=40.0, y=540.0, theta=math.pi / 2)
    assert (ahead_left, ahead, ahead_right) == pytest.approx((0.495 * 2**0.5, 0.495, 0.325 * 2**0.5))
    assert env.set_state(x=300.0, y=200.0, theta=0.0).tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("maze", MAZES)
def test_lasers_match_exact_arithmetic(maze):
    getcontext().prec = 50
    walls = MAZES[maze][0]
    envs = HardMazeVector(num_envs=150, maze=maze)
    envs.reset(seed=0)
    rng = np.random.default_rng(1)
    places, expected = free_places(walls, 150, 0.5, 300.0, seed=2), []
    headings = np.empty(150)
    for i, (x, y) in enumerate(places):
        c, s, length = DIRECTIONS[rng.integers(len(DIRECTIONS))]
        c, s = Fraction(int(c * rng.choice([-1, 1])), length), Fraction(int(s * rng.choice([-1, 1])), length)
        headings[i] = math.atan2(s, c)
        expected.append(min(exact_distance(walls, exact(x), exact(y), c, s) / 100.0, 1.0))
    measured = envs.set_state(x=places[:, 0], y=places[:, 1], theta=headings)[:, 1]
    assert (np.array(expected) < 1.0).sum() > 60
    np.testing.assert_allclose(measured, expected, rtol=1e-6, atol=1e-7)  # float32


def test_wheels_drive_arcs():
    env = HardMaze()
    env.reset(seed=0)
    env.set_state(x=300.0, y=200.0, theta=0.0)
    env.step(np.array([1.0, 3.0], np.float32))  # turns by 0.1 on a circle of radius 20
    state = env.get_state()
    assert (state["x"], state["y"], state["theta"]) == pytest.approx(
        (300.0 + 20.0 * math.sin(0.1), 200.0 + 20.0 * (1.0 - math.cos(0.1)), 0.1)
    )
    env.set_state(x=300.0, y=200.0, theta=math.pi - 0.1)
    env.step(np.array([-4.0, 4.0], np.float32))  # on the spot
    state = env.get_state()
    assert (state["x"], state["y"], state["theta"]) == pytest.approx((300.0, 200.0, 0.3 - math.pi))
    env.set_state(theta=-math.pi / 2)
    env.step(FORWARD / 2)
    assert env.get_state()["y"] == pytest.approx(198.0)


def test_a_wall_stops_the_robot_but_lets_it_turn():
    env = HardMaze()
    env.reset(seed=0)
    env.set_state(x=21.4, y=400.0, theta=math.pi)
    assert env.step(FORWARD)[0][3:].tolist() == [1.0, 1.0]  # would be at 17.4, 9.9 from the border
    assert env.get_state()["x"] == 21.4
    env.set_state(x=21.6)
    assert env.step(FORWARD)[0][3:].tolist() == [0.0, 0.0]
    assert env.get_state()["x"] == pytest.approx(17.6)
    env.step(np.array([3.0, 4.0], np.float32))
    state = env.get_state()
    assert (state["x"], state["theta"]) == pytest.approx((17.6, 0.05 - math.pi))
    for heading, bumpers in ((-1.7, [1.0, 0.0]), (1.7, [0.0, 1.0])):  # along the border on the left, then on the right
        env.set_state(x=17.6, y=400.0, theta=heading)
        assert env.step(FORWARD)[0][3:].tolist() == bumpers


def test_bumpers_match_sampled_quarters():
    walls = MAZES["hard"][0]
    places = free_places(walls, 120, RADIUS, RADIUS + 4.0, seed=3)
    envs = HardMazeVector(num_envs=len(places), autoreset_mode="Disabled")
    envs.reset(seed=0)
    headings = np.random.default_rng(4).uniform(-math.pi, math.pi, len(places))
    envs.set_state(x=places[:, 0], y=places[:, 1], theta=headings)
    obs, *_ = envs.step(np.tile(FORWARD, (len(places), 1)))
    tried = places + 4.0 * np.stack([np.cos(headings), np.sin(headings)], 1)
    angles, radii = np.meshgrid(np.linspace(0.0, math.pi / 2, 100), np.linspace(0.0, 1.0, 40) ** 0.5)
    stopped = clearance(walls, tried) < RADIUS
    assert stopped.sum() > 40 and (obs[~stopped, 3:] == 0.0).all()
    for place, heading, pressed in zip(tried[stopped], headings[stopped], obs[stopped, 3:]):
        for side, bumper in zip((-1.0, 1.0), pressed):
            for radius, known in ((RADIUS, 1.0), (RADIUS + 0.1, 0.0)):  # sampled walls press; pressed ones are all but sampled
                x, y = (start + radius * radii * turn(heading + side * angles) for start, turn in zip(place, (np.cos, np.sin)))
                hit = (clearance(walls, np.stack([x.ravel(), y.ravel()], 1)) <= 0.0).any()
                assert bumper == known or hit != (known == 1.0), (place, heading, side)


def test_random_drives_keep_their_distance():
    walls = MAZES["hard"][0]
    envs = HardMazeVector(num_envs=64, autoreset_mode="Disabled")
    envs.reset(seed=0)
    places = free_places(walls, 64, RADIUS, 200.0, seed=5)
    envs.set_state(x=places[:, 0], y=places[:, 1])
    rng, stopped = np.random.default_rng(6), 0
    for _ in range(300):
        before = envs.get_state()
        wheels = rng.uniform([0.0, -2.0], [4.0, 4.0], (64, 2)).astype(np.float32)
        envs.step(wheels)
        after = envs.get_state()
        half = (wheels[:, 1] - wheels[:, 0].astype(float)) / 40.0
        course = before["theta"] + half
        chord = wheels.astype(float).mean(1) * np.sinc(half / math.pi)
        tried = np.stack([before["x"] + chord * np.cos(course), before["y"] + chord * np.sin(course)], 1)
        blocked = clearance(walls, tried) < RADIUS
        expected = np.where(blocked[:, None], np.stack([before["x"], before["y"]], 1), tried)
        np.testing.assert_allclose(np.stack([after["x"], after["y"]], 1), expected, atol=1e-9)
        stopped += blocked.sum()
    assert stopped > 100


def test_the_last_place_pays():
    env = HardMaze(steps=3)
    env.reset(seed=0)
    for goal, (x, y) in enumerate(((60.0, 90.0), (110.0, 200.0))):
        env.reset(seed=0)
        env.set_state(x=x, y=y)
        events = [env.step(np.zeros(2, np.float32)) for _ in range(3)]
        assert [event[1] for event in events] == pytest.approx([0.0, 0.0, (0.4, 0.8)[goal]])
        assert [event[2:4] for event in events] == [(False, False), (False, False), (True, False)]
        assert (events[-1][4]["reward_area"], events[-1][4]["reached"]) == (goal, True)
    env.reset(seed=0)
    assert [env.step(FORWARD)[1:3] for _ in range(3)] == [(0.0, False), (0.0, False), (0.0, True)]


def test_reaching_an_area_ends_the_other_task():
    env = HardMaze(reward="reach", steps=3)
    env.reset(seed=0)
    env.set_state(x=152.0, y=200.0, theta=math.pi)
    _, reward, terminated, truncated, info = env.step(FORWARD)
    assert (reward, terminated, truncated, info["reward_area"]) == (1.0, True, False, 1)
    env.reset(seed=0)
    assert [env.step(FORWARD)[1:4] for _ in range(3)] == [(0.0, False, False)] * 2 + [(0.0, False, True)]


def test_info_tells_where_the_robot_is_and_was():
    env = HardMaze()
    _, info = env.reset(seed=0)
    assert (info["outcome"].tolist(), info["cell"], info["coverage"]) == ([0.1, 0.75], 37 * 50 + 5, 1 / 2500)
    env.set_state(x=148.0, y=200.0, theta=0.0)  # 48 from the second goal
    *_, info = env.step(FORWARD)
    assert (info["outcome"][0], info["cell"], info["coverage"]) == (pytest.approx(152 / 600), 16 * 50 + 12, 2 / 2500)
    assert (info["reward_area"], info["reached"]) == (-1, False)  # 52 from it now
    env.set_state(x=100.0)
    assert env.step(FORWARD)[4]["reward_area"] == 1
    env.set_state(x=300.0)
    *_, info = env.step(FORWARD)
    assert (info["reward_area"], info["reached"]) == (-1, True)


def test_goals_and_lasers_of_ones_own():
    goals = [(300.0, 200.0, 20.0), (310.0, 200.0, 40.0), (500.0, 500.0, 30.0)]
    env = HardMaze(goals=goals, lasers=[90.0], steps=1)
    for x, area, reward in ((304.0, 0, 0.8), (330.0, 1, 0.5), (360.0, -1, 0.0)):  # where areas overlap, the first one counts
        env.reset(seed=0)
        obs = env.set_state(x=x, y=200.0, theta=0.0)
        assert obs.shape == (3,)
        _, paid, _, _, info = env.step(np.zeros(2, np.float32))
        assert (paid, info["reward_area"]) == (pytest.approx(reward), area)
    env.reset(seed=0)
    assert env.set_state(x=300.0, y=540.0, theta=0.0)[0] == pytest.approx(0.495)  # to the right is down
    assert env.set_state(x=60.0, y=400.0, theta=math.pi / 2)[0] == pytest.approx(0.525)


def test_twin_ways_are_mirror_images():
    envs = HardMazeVector(num_envs=2, maze="twin", autoreset_mode="Disabled")
    envs.reset(seed=0)
    rng = np.random.default_rng(7)
    for _ in range(200):
        wheels = rng.uniform([1.0, 0.5], 4.0, 2).astype(np.float32)
        obs, *_ = envs.step(np.stack([wheels, wheels[::-1]]))
        np.testing.assert_allclose(obs[1], obs[0][[2, 1, 0, 4, 3]], atol=1e-5)
        state = envs.get_state()
        assert state["x"].mean() == pytest.approx((LOW + HIGH) / 2)


def test_scores_of_drivers():
    """The one that knows the maze is at each goal in the end, and sooner than the one that only feels it."""
    env = HardMaze()
    for goal in range(2):
        total, steps, info = drive(env, Oracle(env, goal))
        assert total > 0.99 and steps == 2000 and info["reward_area"] == goal
    for side in (1, -1):
        total, _, info = drive(env, WallFollower(env, side))
        assert info["reached"] and info["coverage"] > 0.15 and total < 0.99
    env = HardMaze(reward="reach")
    times = [drive(env, driver) for driver in (Oracle(env, 1), WallFollower(env, -1), WallFollower(env, 1))]
    assert [total for total, *_ in times] == [1.0, 1.0, 1.0]
    assert times[0][1] < times[1][1] < times[2][1]


def test_drivers_refuse_what_they_cannot_drive():
    with pytest.raises(ValueError, match=r"goal must be in \[0, 2\), got 2"):
        Oracle(HardMaze(), 2)
    with pytest.raises(ValueError, match="needs lasers at -45, 0 and 45 degrees"):
        WallFollower(HardMaze(lasers=[0, 45, 90]))
    with pytest.raises(ValueError, match="side must be 1 or -1, got 0"):
        WallFollower(HardMaze(), 0)


def test_rasters_show_walls_goals_and_the_robot():
    envs = HardMazeVector(num_envs=3)
    envs.reset(seed=0)
    envs.set_state(x=[60.0, 300.0, 500.0], y=[450.0, 200.0, 60.0])
    frames = envs.env.raster(envs.get_state())
    assert (frames.shape, frames.dtype) == ((3, 64, 64, 3), np.uint8)
    for frame, (x, y) in zip(frames, ((60, 450), (300, 200), (500, 60))):
        assert frame[int(y / 600 * 64), int(x / 600 * 64)].tolist() == [0, 0, 255]
        assert frame[6, 6].tolist() == frame[21, 10].tolist() == [255, 0, 0]  # the goals' centres
        assert frame[30, 18].tolist() == frame[0, 40].tolist() == [0, 0, 0]  # the upright wall, the border
        assert frame[32, 44].tolist() == [255, 255, 255]
        assert set(map(tuple, frame.reshape(-1, 3).tolist())) == {(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)}
    plain = envs.env.raster(envs.get_state(), size=100, goals=False)
    assert plain.shape == (3, 100, 100, 3) and plain[0, 10, 10].tolist() == [255, 255, 255]
    blue = (plain == [0, 0, 255]).all(-1).sum((1, 2))
    assert (np.abs(blue - math.pi * (RADIUS / 6) ** 2) < 4).all()
    env = HardMaze()
    env.reset(seed=0)
    assert (env.raster() == frames[0]).all()


def test_distractors_differ_from_picture_to_picture():
    envs = HardMazeVector(num_envs=2)
    envs.reset(seed=0)
    plain = envs.env.raster(envs.get_state())
    frames = envs.env.raster(envs.get_state(), distractors=4, seed=1)
    changed = (frames != plain).any(-1)
    assert (changed.sum((1, 2)) > 64).all() and (changed.sum((1, 2)) <= 4 * 64).all()
    assert (frames[0] != frames[1]).any()
    assert (frames == envs.env.raster(envs.get_state(), distractors=4, seed=1)).all()
    assert (frames != envs.env.raster(envs.get_state(), distractors=4, seed=2)).any()
    with pytest.raises(ValueError, match=r"size must be an integer in \[8, 1024\], got 4"):
        envs.env.raster(envs.get_state(), size=4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(maze="easy"), "maze must be one of hard, twin, got 'easy'"),
        (dict(reward="dense"), "reward must be one of terminal, reach, got 'dense'"),
        (dict(steps=0), r"steps must be an integer in \[1, 100000\], got 0"),
        (dict(lasers=[]), r"lasers must be 1 to 64 angles in degrees, got \[\]"),
        (dict(goals=[(60.0, 60.0)]), r"goals must be 1 to 64 triples \(x, y, radius\), got"),
        (dict(goals=[(60.0, 600.0, 5.0)]), r"goals must be at x and y in \[7.5, 589.5\] with a positive radius, got"),
        (dict(goals=[(60.0, 60.0, 0.0)]), "with a positive radius, got"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        HardMaze(**kwargs)


def test_the_drawing_shows_walls_goals_way_and_robot():
    env = HardMaze(render_mode="ansi")
    env.reset(seed=0)
    env.set_state(x=310.0, y=200.0)
    rows = env.render().split("\n")
    assert (rows[6][10], rows[2][2], rows[6][3], rows[10][5]) == ("@", "G", "G", "#")
    assert rows[0] == "#" * 20
    env = HardMaze(render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    for _ in range(30):
        env.step(FORWARD)
    after = env.render()
    assert tuple(before[450, 60]) != tuple(before[520, 60]) and tuple(after[455, 65]) == (120, 150, 220)  # the way
