import math

import gymnasium as gym
import numpy as np
import pytest

from explore_gym.envs.navigation.drivers import RuleDriver, play
from explore_gym.envs.navigation.driving import Driving, DrivingVector
from explore_gym.envs.navigation.roads import LENGTH
from explore_gym.envs.navigation.traffic import DT, EGO_LENGTH

COAST = np.zeros(2, np.float32)
# A straight way over one crossing without lights, 200 m, 10 m/s: 1 m, or half a percent, in a step
STRAIGHT = dict(bend=0.0, crossings=(1, 1), route_length=(200.0, 200.0), speed_limit=(10.0, 10.0), crossing_rate=0.0)
RIGHT_LANE_AHEAD = [2, 29, 8]  # segments: in from the west, straight on, out to the east
PEDESTRIAN, OBSTACLE = 15, -1  # places in the table of actors


def scene(place=40.0, side=0.0, speed=0.0, turned=0.0, lit=False, **kwargs):
    """An empty world whose ego is `place` metres along the route's segments and `side` metres to the left of them."""
    env = Driving(**{**STRAIGHT, **kwargs})
    seed = 0
    env.reset(seed=seed)
    while env.get_state()["route"][:3].tolist() != RIGHT_LANE_AHEAD:
        seed += 1
        env.reset(seed=seed)
    state = env.get_state()
    walk = state["walk"].copy()
    walk[:, :2] = 1000.0  # pedestrians are far away
    env.set_state(num_vehicles=0, present=0, lane=-1, lights=int(lit), walk=walk)
    heading = state["heading"] + turned
    env.set_state(
        x=state["segments"][2, 0] + place,
        y=-5.25 + side,
        heading=heading,
        cos=math.cos(heading),
        sin=math.sin(heading),
        yaw_history=heading,
        speed=speed,
        farthest=place,
        leg=int((state["route_starts"][1:3] < place).sum()),
    )
    return env


def stand(env, actor, ahead, left=0.0):
    """Put an actor, which doesn't move, so many metres ahead of the ego and to its left."""
    state = env.get_state()
    for name, value in (("present", 1), ("actor_x", state["x"] + ahead), ("actor_y", state["y"] + left), ("actor_cos", 1.0)):
        column = state[name].copy()
        column[actor] = value
        env.set_state(**{name: column})
    if actor == PEDESTRIAN:
        walk = state["walk"].copy()
        walk[0] = (state["x"] + ahead, 0.0, 0.0, 1.0, state["y"] + left, 1.0, 1e-9)
        walking = state["walking"].copy()
        walking[0] = 1
        env.set_state(walk=walk, walking=walking, actor_cos=0.0, actor_sin=1.0)


def put_vehicle(env, ahead, speed=0.0):
    """A vehicle in the ego's lane."""
    state = env.get_state()
    stand(env, 0, ahead)
    values = dict(lane=2, along=state["farthest"] + ahead, following=29, desired=10.0, actor_speed=speed, claim=-1)
    for name, value in values.items():
        column = state[name].copy()
        column[0] = value
        env.set_state(**{name: column})
    env.set_state(num_vehicles=1)


def line(env):
    """Metres along the route at which the crossing begins."""
    return float(env.get_state()["route_starts"][1])


def test_a_constant_wheel_drives_a_circle():
    env = scene(speed=5.0, evaluation=True, deviation=100.0, speed_limit=(20.0, 20.0))
    wheels = 0.6 * 0.5
    slip = math.atan(0.5 * math.tan(wheels))
    radius = 2.8 / (math.cos(slip) * math.tan(wheels))
    start = env.get_state()
    direction = float(start["heading"]) + slip  # of motion: the middle doesn't move where the box points
    middle = np.array([start["x"] - radius * math.sin(direction), start["y"] + radius * math.cos(direction)])
    for step in range(1, 101):
        env.step(np.array([0.5, 0.0], np.float32))
        state = env.get_state()
        assert math.dist(middle, (state["x"], state["y"])) == pytest.approx(radius)
        assert state["heading"] - start["heading"] == pytest.approx(5.0 * DT * step / radius)
    assert radius < 5.0 * DT * 100 / (0.8 * 2.0 * math.pi), "that was most of the circle"


def test_thrust_and_brake():
    env = scene(place=40.0)
    x = float(env.get_state()["x"])
    env.step(np.array([0.0, 1.0], np.float32))
    state = env.get_state()
    assert (state["speed"], state["x"] - x) == pytest.approx((0.3, 0.015))  # 3 m/s^2 for 0.1 s
    env.step(np.array([0.0, -1.0], np.float32))
    state = env.get_state()
    assert (state["speed"], state["x"] - x) == pytest.approx((0.0, 0.03))  # 6 m/s^2 would go backwards
    env.set_state(speed=19.9)
    env.step(np.array([0.0, 1.0], np.float32))
    assert env.get_state()["speed"] == 20.0


def test_the_simple_reward_is_the_percent_of_the_route_gained():
    env = scene(speed=10.0)
    _, reward, terminated, truncated, info = env.step(COAST)
    assert reward == pytest.approx(100.0 / 200.0)
    assert info["route_completion"] == pytest.approx(0.5)
    assert (terminated, truncated) == (False, False)
    assert [info[key] for key in info if key.startswith("factor")] == [1.0] * 5


@pytest.mark.parametrize(("speed", "factor"), [(10.0, 1.0), (11.115, 0.5), (12.23, 0.0), (15.0, 0.0)])
def test_over_the_limit_the_factor_falls_to_zero_at_2_23_metres_per_second(speed, factor):
    _, reward, *_, info = scene(speed=speed).step(COAST)
    assert info["factor_speed"] == pytest.approx(factor)
    assert reward == pytest.approx(0.05 * speed * factor)


def test_nothing_is_gained_outside_the_lanes_of_the_route():
    env = scene(side=7.0, speed=10.0)  # the lane of those who come, 1.75 m beyond the middle
    _, reward, terminated, *_, info = env.step(COAST)
    assert (reward, info["factor_lanes"], terminated) == (0.0, 0.0, False)
    assert info["route_completion"] == pytest.approx(0.5)
    assert info["driving_score"] == pytest.approx(0.5 * (1.0 - 0.005))  # half a percent of the route was driven outside
    *_, info = scene(side=3.5, speed=10.0).step(COAST)
    assert info["factor_lanes"] == 1.0  # the other lane of one's own side


def test_a_road_that_the_route_does_not_take_is_outside_its_lanes_and_a_crossing_is_not():
    env = scene(evaluation=True, deviation=100.0)  # from west to east, the crossing's middle at (0, 0)
    for y, factor in ((13.0, 1.0), (20.0, 0.0)):
        env.set_state(x=5.25, y=y)
        assert env.step(COAST)[4]["factor_lanes"] == factor


def test_time_to_collision_counts_for_penalty_steps():
    half = EGO_LENGTH + 2.25
    env = scene(speed=10.0, penalty_steps=5)
    stand(env, OBSTACLE, half + 10.2)  # 9.2 m after this step; the forecast ends after 0.9 s
    assert env.step(COAST)[4]["factor_ttc"] == 1.0
    env = scene(speed=10.0, penalty_steps=5)
    stand(env, OBSTACLE, half + 9.9)
    _, reward, *_, info = env.step(COAST)
    assert (reward, info["factor_ttc"]) == pytest.approx((0.25, 0.5))
    env.set_state(present=0)
    assert [env.step(COAST)[4]["factor_ttc"] for _ in range(5)] == [0.5] * 4 + [1.0]


def test_one_that_drives_ahead_as_fast_is_no_violation():
    env = scene(speed=10.0)
    put_vehicle(env, EGO_LENGTH + 2.25 + 5.0, speed=10.0)
    assert env.step(COAST)[4]["factor_ttc"] == 1.0


def fitted(samples, order, derivative):
    """The derivative at the last of samples DT apart of the polynomial fitted to them."""
    times = np.arange(1 - len(samples), 1) * DT
    return np.polyval(np.polyder(np.polyfit(times, samples, order), derivative), 0.0)


def test_comfort_falls_by_a_twelfth_for_each_limit_exceeded():
    rng = np.random.default_rng(0)
    env = scene(speed=6.0, evaluation=True, penalty_steps=4, deviation=100.0)
    left, along, lateral, total, yaws, seen = np.zeros(6), [], [], [], [float(env.get_state()["heading"])] * 5, set()
    action = np.zeros(2)
    for _ in range(150):
        action = np.clip(0.8 * action + rng.normal(0.0, 0.45, 2), -1.0, 1.0)
        *_, terminated, truncated, info = env.step(action.astype(np.float32))
        state = env.get_state()
        along.append(state["acceleration_along"])
        lateral.append(state["speed"] * state["yaw_rate"])
        total.append(math.hypot(along[-1], lateral[-1]))
        yaws.append(state["heading"])
        left = np.maximum(left - 1, 0)
        if len(along) >= 8:
            smooth = fitted(along[-8:], 2, 0)
            exceeded = [
                not -4.05 <= smooth <= 2.40,
                abs(fitted(lateral[-8:], 2, 0)) > 4.89,
                abs(fitted(total[-15:], 2, 1)) > 8.37,
                abs(fitted(along[-15:], 2, 1)) > 4.13,
                abs(fitted(yaws[-5:], 2, 1)) > 0.95,
                abs(fitted(yaws[-5:], 3, 2)) > 1.93,
            ]
            left[exceeded] = 4
            seen |= set(np.flatnonzero(exceeded).tolist())
        assert info["factor_comfort"] == pytest.approx(1.0 - 0.5 * (left > 0).sum() / 6.0)
        if terminated or truncated:
            break
        env.set_state(speed=max(float(state["speed"]), 4.0))
    assert len(seen) >= 5, f"only limits {sorted(seen)} were exceeded"


def test_three_seconds_off_the_centre_halve_the_gain():
    env = scene(side=0.6, speed=1.0)
    factors = [env.step(COAST)[4]["factor_centre"] for _ in range(33)]
    assert factors == [1.0] * 30 + [0.5] * 3
    env.set_state(y=-5.25)
    assert [env.step(COAST)[4]["factor_centre"] for _ in range(4)] == [0.5] * 2 + [1.0] * 2  # 33 steps, one back for each


def test_factors_multiply():
    env = scene(side=0.6, speed=11.115)
    env.set_state(off_centre=100, ttc_left=10, comfort_left=[0, 9, 0, 0, 9, 0])
    _, reward, *_ = env.step(COAST)
    assert reward == pytest.approx(0.05 * 11.115 * 0.5 * 0.5 * 0.5 * (1.0 - 0.5 * 2 / 6))


def test_additive_reward():
    env = scene(speed=10.0, reward="additive")
    assert env.step(COAST)[1] == pytest.approx((5 * 0.5 + (5 + 4 + 2) * 100 / 400) / 16)
    env = scene(speed=11.0, reward="additive", additive_steps=100)
    env.set_state(ttc_left=9)
    assert env.step(COAST)[1] == pytest.approx((5 * 0.55 + 2 * 100 / 100) / 16)


@pytest.mark.parametrize(("time", "ran"), [(6.0, True), (4.0, False), (1.0, False)])  # red, yellow and green
def test_a_red_light_ends_the_episode_and_costs_the_hint(time, ran):
    env = scene(lit=True)
    before = line(env) - EGO_LENGTH - 0.5
    env = scene(place=before, speed=10.0, lit=True)
    env.set_state(light_times=time)
    _, reward, terminated, _, info = env.step(COAST)
    assert (terminated, info["red_lights"]) == (ran, int(ran))
    assert reward == pytest.approx(0.5 - ran)
    env = scene(place=before, speed=10.0, lit=True, hint=3.0, evaluation=True)
    env.set_state(light_times=time)
    _, reward, terminated, *_ = env.step(COAST)
    assert (terminated, reward) == (False, pytest.approx(0.5 - 3.0 * ran))
    env = scene(place=before, speed=10.0)
    env.set_state(light_times=time)
    assert not env.step(COAST)[2], "there is no light"


@pytest.mark.parametrize(("actor", "key", "penalty"), [(OBSTACLE, "obstacles_hit", 0.65), (PEDESTRIAN, "pedestrians_hit", 0.5)])
def test_collisions(actor, key, penalty):
    env = scene(speed=10.0)
    stand(env, actor, 3.0)
    _, reward, terminated, _, info = env.step(COAST)
    assert (terminated, info[key]) == (True, 1)
    assert reward == pytest.approx(0.5 * 0.5 - 1.0)
    env = scene(speed=10.0, evaluation=True)
    stand(env, actor, 3.0)
    *_, terminated, _, info = env.step(COAST)
    assert (terminated, info["speed"]) == (False, 0.0)
    *_, info = env.step(COAST)
    assert info[key] == 1, "the same contact counts once"
    assert info["driving_score"] == pytest.approx(penalty * info["route_completion"])


def test_a_vehicle_that_was_hit_is_gone():
    env = scene(speed=10.0, evaluation=True)
    put_vehicle(env, 4.0)
    *_, terminated, _, info = env.step(COAST)
    assert (terminated, info["vehicles_hit"], info["speed"]) == (False, 1, 0.0)
    assert env.get_state()["present"][0] == 0
    assert info["driving_score"] == pytest.approx(0.6 * 0.5)


def test_penalties_of_the_score_multiply():
    env = scene(speed=10.0, evaluation=True, penalties=[0.9, 0.8, 0.7, 0.6])
    env.set_state(pedestrians_hit=1, vehicles_hit=2, obstacles_hit=1, red_lights=3, completion=49.5, outside=10.0)
    *_, info = env.step(COAST)
    assert info["driving_score"] == pytest.approx(50.0 * 0.9 * 0.9 * 0.8**2 * 0.7 * 0.6**3)


@pytest.mark.parametrize(("side", "off"), [(-2.58, True), (-2.25, False)])  # the road's edge is at -1.75, half a box 0.918 wide
def test_more_than_95_percent_off_the_road_ends_the_episode(side, off):
    _, reward, terminated, _, info = scene(side=side, speed=5.0).step(COAST)
    assert (terminated, info["off_roads"], info["factor_lanes"], reward) == (off, int(off), 0.0, 0.0)
    env = scene(side=side, speed=5.0, evaluation=True)
    assert [env.step(COAST)[2] for _ in range(3)] == [False] * 3
    assert env.step(COAST)[4]["off_roads"] == int(off)


def test_far_from_the_route_the_episode_ends_in_evaluation_too():
    for side, end in ((-29.0, False), (-31.0, True)):
        *_, terminated, _, info = scene(side=side, evaluation=True).step(COAST)
        assert (terminated, info["left_route"]) == (end, end)
    assert not scene(side=-31.0, evaluation=True, deviation=40.0).step(COAST)[2]


def test_standing_still_for_long_ends_the_episode():
    env = scene(blocked_time=1.0)
    ends = [env.step(COAST)[2] for _ in range(11)]
    assert ends == [False] * 10 + [True]


def test_running_out_of_time_terminates_and_the_end_of_the_route_truncates():
    env = scene(max_steps=3)
    steps = [env.step(COAST) for _ in range(3)]
    assert [step[2:4] for step in steps] == [(False, False), (False, False), (True, False)]
    assert steps[-1][4]["timeout"]
    end = float(scene().get_state()["route_end"])
    env = scene(place=end - 0.5, speed=10.0)
    env.set_state(completion=99.75)
    _, reward, terminated, truncated, info = env.step(COAST)
    assert (terminated, truncated, info["success"]) == (False, True, True)
    assert (reward, info["route_completion"]) == pytest.approx((0.25, 100.0))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(COAST)


def test_a_shorter_time_limit_only_truncates():
    env = scene(max_episode_steps=2)
    assert [env.step(COAST)[2:4] for _ in range(2)] == [(False, False), (False, True)]


def test_shaped_reward_of_speed_position_and_rotation():
    env = scene(side=0.4, speed=8.0, turned=0.1, reward="shaped")
    side = 0.4 + 0.8 * math.sin(0.1)
    assert env.step(COAST)[1] == pytest.approx(1.0 - 2.0 / 10.0 - side / 2.0 - 0.1)
    assert scene(speed=6.0, reward="shaped", shaped_speed=8.0).step(COAST)[1] == pytest.approx(1.0 - 2.0 / 8.0)


def test_shaped_reward_of_steering():
    env = scene(reward="shaped")
    rewards = [env.step(np.array([steer, 0.0], np.float32))[1] for steer in (0.02, 0.025, 0.0)]
    assert rewards == pytest.approx([-0.1, 0.0, -0.1])  # it stands, so that the term of speed is 0


@pytest.mark.parametrize(
    ("actor", "ahead", "left", "desired"),
    [
        (OBSTACLE, 9.0, 0.0, 2.0),  # 1 of 5 m beyond 8 m
        (OBSTACLE, 9.6, 0.0, 10.0),
        (OBSTACLE, 6.0, 6.5, 10.0),  # more than 45 degrees aside
        (PEDESTRIAN, 8.0, 0.0, 4.0),  # 2 of 5 m beyond 6 m
        (PEDESTRIAN, 8.0, 3.5, 10.0),  # more than 162 / (8.7 + 0.3) degrees aside
    ],
)
def test_shaped_reward_wants_to_slow_down_near_others(actor, ahead, left, desired):
    env = scene(reward="shaped")
    stand(env, actor, ahead, left)
    assert env.step(COAST)[1] == pytest.approx(1.0 - desired / 10.0)


@pytest.mark.parametrize(
    ("distance", "time", "desired"),
    [(7.0, 6.0, 4.0), (7.0, 4.0, 4.0), (7.0, 1.0, 10.0), (19.0, 6.0, 10.0)],  # 2 of 5 m beyond 5 m; green; too far away
)
def test_shaped_reward_wants_to_slow_down_before_red_and_yellow(distance, time, desired):
    env = scene(reward="shaped", lit=True)
    env = scene(place=line(env) - distance, reward="shaped", lit=True)
    env.set_state(light_times=time)
    assert env.step(COAST)[1] == pytest.approx(1.0 - desired / 10.0)


def test_shaped_reward_of_failures():
    env = scene(speed=10.0, reward="shaped")
    stand(env, OBSTACLE, 4.0)
    assert env.step(COAST)[1] == pytest.approx(0.0 - 1.0 - 10.0)  # desired 0, failure, and the speed
    assert scene(reward="shaped", max_steps=1).step(COAST)[1] == pytest.approx(0.0 - 1.0)


def test_what_is_seen_of_ego_route_and_lights():
    env = scene(lit=True)
    env = scene(place=line(env) - 20.0 - EGO_LENGTH, side=0.7, speed=10.0, turned=0.1, lit=True)
    obs = env.set_state(light_times=6.0, steer=0.25, acceleration_along=-3.0, yaw_rate=0.5)
    parts = {name: obs[part] for name, part in env.parts.items()}
    expected = [0.5, -0.5, 0.25, 0.5, 0.5, 0, 0, 1, 0.4, 0, 0.2, 0.2, 0.1 / math.pi]
    assert parts["ego"] == pytest.approx(expected, abs=1e-6)
    points = 5.0 * np.arange(1, 11) - 0.7j
    points *= np.exp(-0.1j) / 50.0
    assert parts["route"].reshape(10, 2) == pytest.approx(np.stack([points.real, points.imag], 1), abs=1e-6)
    assert not parts["actors"].any()


def test_what_is_seen_of_others():
    env = scene(speed=10.0)
    stand(env, OBSTACLE, 15.0, 3.5)
    put_vehicle(env, 10.0, speed=4.0)
    stand(env, PEDESTRIAN, -12.0, 0.0)
    stand(env, 16, 50.5)  # too far away
    state = env.get_state()
    cos, sin = state["actor_cos"].copy(), state["actor_sin"].copy()
    cos[0], sin[0], cos[OBSTACLE], sin[OBSTACLE] = 1.0, 0.0, 0.0, 1.0
    speeds = state["actor_speed"].copy()
    speeds[0], speeds[PEDESTRIAN] = 4.0, 2.0
    rows = env.set_state(actor_cos=cos, actor_sin=sin, actor_speed=speeds)[env.parts["actors"]].reshape(8, 9)
    assert rows[0] == pytest.approx([0.2, 0, 1, 0, -0.3, 0, 1, 0, 0], abs=1e-6)
    assert rows[1] == pytest.approx([-0.24, 0, 0, 1, -0.5, 0.1, 0, 1, 0], abs=1e-6)
    assert rows[2] == pytest.approx([0.3, 0.07, 0, 1, -0.5, 0, 0, 0, 1], abs=1e-6)
    assert not rows[3:].any()


def test_what_the_critic_and_the_raster_see():
    env = scene(side=-0.5, critic=True, raster=64, penalty_steps=10, max_steps=200, blocked_time=1.9, lit=True)
    stand(env, OBSTACLE, 20.5, 3.5)
    stand(env, PEDESTRIAN, 8.5, -6.5)
    obs = env.set_state(
        elapsed=50, completion=20.0, ttc_left=5, comfort_left=[0, 1, 2, 3, 4, 10], off_centre=62, still=5, light_times=6.0
    )
    expected = [0.75, 0.8, 0.5, 0, 0.1, 0.2, 0.3, 0.4, 1.0, 1.0, 0.75]
    assert obs["critic"] == pytest.approx(expected)
    assert obs["vector"].shape == (105,)
    raster = obs["raster"]
    row = 64 - 16 - 1  # of the ego, whose pixel has it 0 to 1 m ahead; column 31 is 0 to 1 m to its left
    assert np.flatnonzero(raster[row, :, 0]).tolist() == list(range(19, 33))  # the road, 12.75 m left to 1.25 m right
    assert np.flatnonzero(raster[row, :, 1]).tolist() == [31]  # the route, 0.5 m to the left
    assert 26 in np.flatnonzero(raster[row, :, 2])  # the middle of the road, 5.75 m to the left
    assert raster[row - 20, 28, 3] == 255 and not raster[row, :, 3].any()
    assert raster[row - 8, 38, 4] == 255
    assert set(np.unique(raster[..., 5])) <= {0, 85, 170, 255}


def test_a_route_is_as_long_as_asked_and_two_crossings_need_260_metres():
    envs = DrivingVector(num_envs=200, route_length=(150.0, 300.0))
    envs.reset(seed=0)
    states = envs.get_state()
    lengths, two = states["route_end"] - states["route_start"], states["num_crossings"] == 2
    assert 145.0 < lengths.min() < 160.0 and 290.0 < lengths.max() < 305.0  # lanes differ a little from the middle of a road
    assert lengths[two].min() > 255.0
    assert 0.3 < two.mean() < 0.7
    assert (states["lane"][:, -1, None] == states["route"]).any(1).all(), "the obstacle stands in a lane of the route"
    assert {8, 15} <= set(states["num_vehicles"].tolist()) <= set(range(8, 16))
    assert (states["lights"].sum(1) >= 1).all() and (states["lights"].sum(1) <= states["num_crossings"]).all()


def test_the_shortest_routes_have_room_for_obstacle_and_pedestrians():
    for crossings, length in (((1, 1), 150.0), ((2, 2), 260.0)):
        envs = DrivingVector(num_envs=500, crossings=crossings, route_length=(length, length))
        envs.reset(seed=0)
        states, lanes = envs.get_state(), np.arange(500)
        lane, along, route = states["lane"][:, -1], states["along"][:, -1], states["route"]
        rest = states["segments"][lanes, lane, LENGTH] - along
        first, last = lane == route[:, 0], lane == route[lanes, states["num_legs"] - 1]
        assert (along - 15.0 * first).min() >= 25.0  # the route starts 15 m from the end of its road
        assert (rest - 25.0 * last).min() >= 30.0  # and ends 25 m before that of its last


def test_the_driver_arrives_and_random_actions_do_not():
    envs = DrivingVector(num_envs=100, autoreset_mode="SameStep", evaluation=True)
    _, info = play(envs, RuleDriver(envs), seed=1000)
    assert info["success"].mean() >= 0.9
    assert (info["driving_score"] > 99.9).mean() >= 0.9
    envs.reset(seed=1000)
    rng, scores, over = np.random.default_rng(0), np.zeros(100), np.zeros(100, bool)
    while not over.all():
        *_, terminated, truncated, info = envs.step(rng.uniform(-1.0, 1.0, (100, 2)).astype(np.float32))
        first = (terminated | truncated) & ~over
        scores[first] = info["final_info"]["driving_score"][first]
        over |= first
    assert scores.mean() < 15.0


def test_the_drawing_shows_what_is_there():
    env = scene(side=0.5, lit=True, render_mode="ansi")
    state = env.get_state()
    env = scene(place=float(state["route_starts"][1]) - 30.5, side=0.5, lit=True, render_mode="ansi")
    stand(env, OBSTACLE, 20.5, -0.2)
    stand(env, PEDESTRIAN, 10.5, 5.5)
    env.set_state(light_times=6.0)
    rows = [row.ljust(96) for row in env.render().split("\n")]
    assert "@" in {rows[i][j] for i in (31, 32) for j in (47, 48)}  # the ego is in the middle
    assert rows[32][68] == "X" and rows[26][58] == "p"
    assert rows[32][52] == "." and rows[32][43] == " "  # what is left of the route, half a metre to the right
    assert rows[30][78] == "r"  # its light is red
    assert "0 of 36 km/h" in rows[65]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(reward="sparse"), "reward must be one of simple, shaped, additive, got 'sparse'"),
        (dict(hint=-1.0), "hint must be a number in"),
        (dict(penalty_steps=0), "penalty_steps must be an integer in"),
        (dict(penalties=(0.5, 0.6)), r"penalties must be 4 numbers in \[0, 1\], got \[0.5, 0.6\]"),
        (dict(penalties=(0.5, 0.6, 0.7, 1.5)), "penalties must be 4 numbers"),
        (dict(additive_steps=0), "additive_steps must be an integer in"),
        (dict(shaped_speed=21.0), "shaped_speed must be a number in"),
        (dict(crossings=(0, 1)), r"crossings must be two integers in \[1, 2\]"),
        (dict(crossings=(2, 1)), r"the first not above the second, got \(2, 1\)"),
        (dict(crossings=1), "crossings must be two integers"),
        (dict(route_length=(100.0, 400.0)), r"route_length must be two numbers in \[150, 400\]"),
        (dict(route_length=(150.0, 250.0)), "route_length must reach 260 for two crossings"),
        (dict(bend=16.0), r"bend must be a number in \[0.0, 15.0\], got 16.0"),
        (dict(speed_limit=(1.0, 10.0)), "speed_limit must be two numbers in"),
        (dict(vehicles=(8, 33)), "vehicles must be two integers in"),
        (dict(vehicles=(8.0, 9.0)), "vehicles must be two integers in"),
        (dict(pedestrians=9), "pedestrians must be an integer in"),
        (dict(crossing_rate=-0.1), "crossing_rate must be a number in"),
        (dict(cycle=5.0), r"cycle must be a number in \[8.0, 120.0\], got 5.0"),
        (dict(deviation=5.0), "deviation must be a number in"),
        (dict(blocked_time=0.5), "blocked_time must be a number in"),
        (dict(raster=4), r"raster must be an integer in \[8, 256\], got 4"),
        (dict(max_steps=0), "max_steps must be an integer in"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Driving(**kwargs)
