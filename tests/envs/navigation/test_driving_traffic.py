import math
from itertools import combinations

import numpy as np
import pytest

from explore_gym.envs.navigation.driving import DrivingVector
from explore_gym.envs.navigation.driving_rewards import overlap
from explore_gym.envs.navigation.roads import (
    CENTRES,
    LANES,
    LENGTH,
    conflicts,
    lane_after,
    pose,
    project,
    surface,
    ways_after,
)
from explore_gym.envs.navigation.traffic import GREEN, RED, YELLOW, idm, light

VEHICLES = 15
STAY = dict(evaluation=True, blocked_time=10_000.0, max_steps=100_000)


@pytest.fixture(scope="module")
def worlds():
    envs = DrivingVector(num_envs=40, autoreset_mode="SameStep", **STAY)
    envs.reset(seed=0)
    return envs


def test_without_a_leader_a_vehicle_speeds_up_to_what_it_wants():
    assert idm(0.0, 12.0, 1e9, 0.0) == pytest.approx(2.0)
    assert idm(6.0, 12.0, 1e9, 0.0) == pytest.approx(2.0 * (1.0 - 0.5**4))
    assert idm(12.0, 12.0, 1e9, 0.0) == pytest.approx(0.0)


@pytest.mark.parametrize("speed", [0.0, 4.0, 9.0])
def test_behind_one_as_fast_it_is_at_rest_at_the_gap_of_equilibrium(speed):
    gap = (2.0 + 1.2 * speed) / math.sqrt(1.0 - (speed / 12.0) ** 4)
    assert idm(speed, 12.0, gap, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert idm(speed, 12.0, 0.9 * gap, 0.0) < 0.0 < idm(speed, 12.0, 1.1 * gap, 0.0)


def test_it_brakes_before_one_who_stands():
    wanted = 2.0 + 10.0 * 1.2 + 10.0 * 10.0 / (2.0 * math.sqrt(2.0 * 2.0))
    assert idm(10.0, 12.0, 40.0, 10.0) == pytest.approx(2.0 * (1.0 - (10.0 / 12.0) ** 4 - (wanted / 40.0) ** 2))
    assert idm(10.0, 12.0, 1.0, 10.0) == -8.0


def test_lights_show_green_yellow_and_red_by_turns(worlds):
    params, state = worlds.env.params[0], worlds.get_state()
    state["lights"], state["light_times"] = 1, 0.0
    shown = []
    for step in range(120):
        state["elapsed"] = step
        shown.append([light(params, state[0], 0, arm) for arm in range(4)])
    shown = np.array(shown)
    assert (shown[:, 0] == [GREEN] * 35 + [YELLOW] * 20 + [RED] * 65).all()  # of a cycle of 12 s
    assert (shown[:, 2] == shown[:, 0]).all() and (shown[:, 3] == shown[:, 1]).all()
    assert (shown[:, 1] == np.roll(shown[:, 0], 60)).all()
    assert ((shown[:, 0] == RED) | (shown[:, 1] == RED)).all()
    state["lights"] = 0
    assert light(params, state[0], 0, 0) == 0


def corners(box):
    x, y, cos, sin, length, width = box
    signs = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    return [complex(x, y) + complex(cos, sin) * complex(length * u, width * v) for u, v in signs]


def common_area(one, two):
    """The area of the intersection of two convex polygons, both counterclockwise: one is cut at each edge of the other."""
    shape = one
    for start, end in zip(two, two[1:] + two[:1]):
        inside = [((end - start).conjugate() * (point - start)).imag for point in shape]
        cut = []
        for i, point in enumerate(shape):
            before, d0, d1 = shape[i - 1], inside[i - 1], inside[i]
            if (d0 < 0.0) != (d1 < 0.0):
                cut.append(before + (point - before) * d0 / (d0 - d1))
            if d1 >= 0.0:
                cut.append(point)
        shape = cut
    return 0.5 * abs(sum((a.conjugate() * b).imag for a, b in zip(shape, shape[1:] + shape[:1])))


def test_boxes_touch_as_polygons_do():
    rng, found = np.random.default_rng(0), []
    for _ in range(3000):
        one, two = (
            (*rng.uniform(-3.0, 3.0, 2), math.cos(angle), math.sin(angle), *rng.uniform(0.2, 3.0, 2))
            for angle in rng.uniform(0.0, 7.0, 2)
        )
        area = common_area(corners(one), corners(two))
        if area == 0.0 or area > 1e-9:
            found.append(area > 0.0)
            assert overlap(*one, *two) == found[-1]
    assert 0.2 < np.mean(found) < 0.9


def test_places_along_segments_are_found_again(worlds):
    state, rng = worlds.get_state()[0], np.random.default_rng(0)
    for segment in [*range(LANES + 16), CENTRES, CENTRES + 3]:
        if state["segments"][segment, LENGTH] > 0.0:
            s, side = rng.uniform(0.0, state["segments"][segment, LENGTH]), rng.uniform(-4.0, 4.0)
            x, y, heading = pose(state, segment, s)
            found = project(state, segment, x - side * math.sin(heading), y + side * math.cos(heading))
            assert found == pytest.approx((s, side), abs=1e-9)


def test_lanes_lead_into_ways_and_ways_into_lanes(worlds):
    for state in worlds.get_state()[:20]:
        joints = 0
        for lane in range(4 * int(state["num_roads"])):
            way = ways_after(state, lane)
            for kind in (0, 1) if way >= 0 else ():
                for one, two in ((lane, way + kind), (way + kind, lane_after(state, way + kind))):
                    end, start = pose(state, one, state["segments"][one, LENGTH]), pose(state, two, 0.0)
                    assert end[:2] == pytest.approx(start[:2], abs=1e-9)
                    assert math.cos(end[2] - start[2]) == pytest.approx(1.0)
                    joints += 1
        assert joints == 2 * 16 * state["num_crossings"]


def test_roads_do_not_overlap(worlds):
    for state in worlds.get_state():
        for road in range(int(state["num_roads"])):
            for s in np.linspace(0.5, state["segments"][CENTRES + road, LENGTH] - 0.5, 12):
                x, y, heading = pose(state, CENTRES + road, s)
                for side in (-6.9, 0.0, 6.9):
                    found = surface(state, x - side * math.sin(heading), y + side * math.cos(heading))
                    assert found == (road, pytest.approx(side, abs=1e-9))


def test_ways_that_cross():
    table, clear = conflicts()
    crossing = [[bool(row >> way & 1) for way in range(16)] for row in table.tolist()]
    assert crossing == np.transpose(crossing).tolist()
    right, ahead, left = 0, 1, 3  # of arm 0; arm 1 lies to the right, 2 opposite
    assert crossing[ahead][4 + ahead] and crossing[ahead][8 + left] and crossing[left][4 + left]
    assert not crossing[ahead][8 + ahead] and not crossing[left][8 + left]
    assert crossing[right][12 + ahead], "both lead into the right lane of arm 1"
    assert not crossing[right][ahead], "one follows the other out of the same lane"
    assert clear[12 + ahead, right] == math.inf, "in the lane where both end"
    # from arm 0 the right lane, 5.25 m right of the middle, meets that of arm 1 after 14 + 5.25 m and has left it 3 m later
    assert clear[4 + ahead, ahead] == pytest.approx(14.0 + 5.25 + 3.0 + 3.0, abs=0.5)


def boxes(states):
    """x, y, cos, sin of all vehicles (lanes, 15); those that aren't there lie far apart."""
    names = ("actor_x", "actor_y", "actor_cos", "actor_sin")
    x, y, cos, sin = (states[name][:, :VEHICLES].copy() for name in names)
    x[states["present"][:, :VEHICLES] == 0] = np.nan
    return x, y, cos, sin


def touching(x, y, cos, sin, i, j):
    dx, dy = x[:, j] - x[:, i], y[:, j] - y[:, i]
    same, across = abs(cos[:, i] * cos[:, j] + sin[:, i] * sin[:, j]), abs(cos[:, i] * sin[:, j] - sin[:, i] * cos[:, j])
    reach, width = 2.25 + 2.25 * same + 0.9 * across, 0.9 + 2.25 * across + 0.9 * same
    apart = [
        (abs(dx * c + dy * s) > reach) | (abs(dy * c - dx * s) > width)
        for c, s in ((cos[:, i], sin[:, i]), (cos[:, j], sin[:, j]))
    ]
    return ~(apart[0] | apart[1]) & ~np.isnan(dx)


def test_vehicles_do_not_touch_and_stop_at_red(worlds):
    """The ego stands where it starts, in everybody's way behind it."""
    worlds.reset(seed=100)
    params, before = worlds.env.params[0], worlds.get_state()
    touched, passed, ran = 0, 0, 0
    for _ in range(300):
        worlds.step(np.zeros((40, 2), np.float32))
        states = worlds.get_state()
        touched += sum(touching(*boxes(states), i, j).sum() for i, j in combinations(range(VEHICLES), 2))
        length = np.take_along_axis(before["segments"][..., LENGTH], before["lane"].clip(0), 1)[:, :VEHICLES]
        was, now = before["along"][:, :VEHICLES] + 2.25, states["along"][:, :VEHICLES] + 2.25
        same = (before["lane"] == states["lane"])[:, :VEHICLES] & (states["following"] >= LANES)[:, :VEHICLES]
        for lane, i in np.argwhere(same & (was < length) & (now >= length)):
            way = int(states["following"][lane, i]) - LANES
            passed += 1
            ran += light(params, states[lane], way // 16, way % 16 // 4) == RED
        before = states
    assert touched == 0
    assert passed > 500
    assert ran <= 0.01 * passed


def test_vehicles_that_leave_come_back(worlds):
    worlds.reset(seed=200)
    for _ in range(400):
        worlds.step(np.zeros((40, 2), np.float32))
    states = worlds.get_state()
    assert states["present"][:, :VEHICLES].sum() > 0.7 * states["num_vehicles"].sum()
    moving = states["actor_speed"][:, :VEHICLES][states["present"][:, :VEHICLES] == 1] > 1.0
    assert moving.mean() > 0.4, "traffic flows"


def test_nobody_drives_in_the_lane_of_the_obstacle(worlds):
    worlds.reset(seed=300)
    for _ in range(200):
        worlds.step(np.zeros((40, 2), np.float32))
        states = worlds.get_state()
        assert not (states["lane"][:, :VEHICLES] == states["lane"][:, -1:]).any()


def test_pedestrians_cross_the_road_and_come_back():
    envs = DrivingVector(num_envs=20, autoreset_mode="SameStep", crossing_rate=10.0, **STAY)
    envs.reset(seed=0)
    places = []
    for _ in range(400):
        envs.step(np.zeros((20, 2), np.float32))
        places.append(envs.get_state()["walk"][:, :2, 4])
    places = np.array(places)
    assert (abs(places) <= 9.0).all()  # 7 m of road and 2 m of pavement to each side
    assert ((places == 9.0).any(0) & (places == -9.0).any(0)).mean() > 0.8
    paces = abs(np.diff(places, axis=0)) / 0.1
    assert paces.max() <= 2.0 + 1e-9
