"""Rewards and infractions of a driving episode: which boxes touch, what the soft factors are, and three sums of it all.

The simple reward and the additive one follow team_code_roach/reward/simple_reward.py of the code of Jaeger et al., 2025, CaRL,
arXiv:2504.17838; the shaped one valeo_action.py and valeo_no_det_px.py of that of Zhang et al., 2021, Roach, arXiv:2108.08265.
"""

import math

import numpy as np

from explore_gym.envs.engine import kernel
from explore_gym.envs.navigation.roads import (
    HALF_ROAD,
    LANE,
    LANES,
    LENGTH,
    OFF_ROAD,
    OFFSETS,
    ON_CROSSING,
    WAYS,
    on_crossing,
    pose,
    project,
    surface,
)
from explore_gym.envs.navigation.traffic import (
    DT,
    EGO_LENGTH,
    EGO_WIDTH,
    HALF_LENGTHS,
    HALF_WIDTHS,
    PEDESTRIAN,
    RED,
    VEHICLE,
    YELLOW,
    kind_of,
    light_of_way,
)

SIMPLE, SHAPED, ADDITIVE = range(3)
OVERSPEED = 2.23  # m/s above the limit at which the factor is 0
FORECAST = (0.1, 0.3, 0.5, 0.7, 0.9)  # s ahead, at which boxes must not touch
STANDING = 0.1  # m/s
OFF_SHARE, GRID = 0.95, 10  # share of the box off the road that counts as leaving it, from GRID x GRID points
OFF_CENTRE, OFF_CENTRE_STEPS = 0.5, 30  # m from the lane's centre, for how many steps
HISTORY, LEAST = 15, 8  # steps of accelerations that are kept, and from which comfort is judged
YAWS = 5
ACCELERATIONS = (-4.05, 2.40)  # m/s^2, least and most along
LATERAL_ACCELERATION, JERK, JERK_ALONG = 4.89, 8.37, 4.13  # m/s^2, m/s^3
YAW_RATE, YAW_ACCELERATION = 0.95, 1.93  # rad/s, rad/s^2

HAZARD, LIGHT_DISTANCE = 9.5, 18.0  # m within which actors and lights slow down
STOPS = (8.0, 6.0)  # m behind a vehicle, a pedestrian, at which the desired speed is 0
STOP_AT_LIGHT, SLOWING = 5.0, 5.0  # m
STEER_CHANGE = 0.01  # of the action


def rewards_state():
    """Fields of the state record."""
    return dict(
        along_history=(np.float64, (HISTORY,)),  # m/s^2, the newest last
        lateral_history=(np.float64, (HISTORY,)),
        total_history=(np.float64, (HISTORY,)),
        yaw_history=(np.float64, (YAWS,)),
        touching=np.int64,  # actors that the ego overlaps, as bits
        off_lane=np.bool_,  # outside the lanes of the route
        is_off_road=np.bool_,
        off_centre=np.int64,  # steps
        ttc_left=np.int64,  # steps for which the violation counts
        comfort_left=(np.int64, (6,)),
        still=np.int64,  # steps
        factor_lanes=np.float64,
        factor_speed=np.float64,
        factor_ttc=np.float64,
        factor_comfort=np.float64,
        factor_centre=np.float64,
        completion=np.float64,  # percent
        outside=np.float64,  # percent of the route that was driven outside its lanes
        vehicles_hit=np.int64,
        pedestrians_hit=np.int64,
        obstacles_hit=np.int64,
        red_lights=np.int64,
        off_roads=np.int64,
    )


@kernel
def reset_rewards(state):
    """What an episode starts with: no memories, no infractions, nothing gained."""
    for i in range(HISTORY):
        state.along_history[i], state.lateral_history[i], state.total_history[i] = 0.0, 0.0, 0.0
    for i in range(YAWS):
        state.yaw_history[i] = state.heading
    state.touching, state.off_lane, state.is_off_road, state.off_centre, state.still = 0, False, False, 0, 0
    state.ttc_left = 0
    for i in range(6):
        state.comfort_left[i] = 0
    state.factor_lanes, state.factor_speed, state.factor_ttc = 1.0, 1.0, 1.0
    state.factor_comfort, state.factor_centre = 1.0, 1.0
    state.completion, state.outside = 0.0, 0.0
    state.vehicles_hit, state.pedestrians_hit, state.obstacles_hit, state.red_lights, state.off_roads = 0, 0, 0, 0, 0


@kernel
def overlap(x1, y1, cos1, sin1, length1, width1, x2, y2, cos2, sin2, length2, width2):
    """Whether two rectangles of these centres, directions and half sides touch: no axis of either separates them."""
    dx, dy = x2 - x1, y2 - y1
    cos, sin = abs(cos1 * cos2 + sin1 * sin2), abs(cos1 * sin2 - sin1 * cos2)
    return (
        abs(dx * cos1 + dy * sin1) <= length1 + length2 * cos + width2 * sin
        and abs(dy * cos1 - dx * sin1) <= width1 + length2 * sin + width2 * cos
        and abs(dx * cos2 + dy * sin2) <= length2 + length1 * cos + width1 * sin
        and abs(dy * cos2 - dx * sin2) <= width2 + length1 * sin + width1 * cos
    )


@kernel
def meets(state, actor, seconds):
    """Whether ego and actor overlap after so many seconds, if both go straight on with the speed they have."""
    kind = kind_of(state, actor)
    length, width = HALF_LENGTHS[kind], HALF_WIDTHS[kind]
    far, near = state.speed * seconds, state.actor_speed[actor] * seconds
    x, y = state.x + far * state.cos, state.y + far * state.sin
    other_x = state.actor_x[actor] + near * state.actor_cos[actor]
    other_y = state.actor_y[actor] + near * state.actor_sin[actor]
    dx, dy, reach = other_x - x, other_y - y, EGO_LENGTH + EGO_WIDTH + length + width
    if dx * dx + dy * dy > reach * reach:
        return False
    cos, sin = state.actor_cos[actor], state.actor_sin[actor]
    return overlap(x, y, state.cos, state.sin, EGO_LENGTH, EGO_WIDTH, other_x, other_y, cos, sin, length, width)


@kernel
def collide(state):
    """Count the actors that the ego touches and didn't before. Returns whether there are any."""
    touching, hit = 0, False
    for actor in range(len(state.present)):
        if state.present[actor] == 1 and meets(state, actor, 0.0):
            touching |= 1 << actor
            if state.touching >> actor & 1 == 0:
                hit = True
                kind = kind_of(state, actor)
                if kind == VEHICLE:
                    state.vehicles_hit += 1
                elif kind == PEDESTRIAN:
                    state.pedestrians_hit += 1
                else:
                    state.obstacles_hit += 1
    state.touching = touching
    return hit


@kernel
def is_close(state):
    """Whether the ego would touch an actor at one of the FORECAST's times: violated time to collision."""
    if state.speed < STANDING:
        return False
    for actor in range(len(state.present)):
        if state.present[actor] == 1:
            dx, dy = state.actor_x[actor] - state.x, state.actor_y[actor] - state.y
            reach = state.speed + state.actor_speed[actor] + 8.0
            if dx * dx + dy * dy < reach * reach:
                for i in range(len(FORECAST)):
                    if meets(state, actor, FORECAST[i]):
                        return True
    return False


@kernel
def locate(state):
    """Whether the ego is on a crossing, outside the lanes of its route, and metres from its lane's centre."""
    segment = state.route[state.leg]
    s, side = project(state, segment, state.x, state.y)
    if segment < LANES:
        from_middle = side - OFFSETS[segment % 2]  # to the left of the road's centre line
        if 0.0 <= s <= state.segments[segment, LENGTH] and abs(from_middle) <= HALF_ROAD:
            return False, from_middle > 0.0, abs(abs(from_middle) % LANE - 0.5 * LANE)
    elif on_crossing(state, (segment - LANES) // WAYS, state.x, state.y):
        return True, False, 0.0
    place, from_middle = surface(state, state.x, state.y)
    if place >= ON_CROSSING:
        return True, False, 0.0
    if place == OFF_ROAD:
        return False, True, abs(side)
    return False, not on_route(state, place, from_middle), abs(abs(from_middle) % LANE - 0.5 * LANE)


@kernel
def on_route(state, road, side):
    """Whether the route runs on that side (positive: left, looking from the crossing) of a road."""
    for leg in range(state.num_legs):
        segment = state.route[leg]
        if segment // 4 == road and segment < LANES and (segment % 4 // 2 == 1) == (side > 0.0):
            return True
    return False


@kernel
def is_off(state):
    """Whether more than OFF_SHARE of the ego's box is off the road."""
    if surface(state, state.x, state.y)[0] != OFF_ROAD:
        return False
    off = 0
    for i in range(GRID):
        u = EGO_LENGTH * ((2 * i + 1) / GRID - 1.0)
        for j in range(GRID):
            w = EGO_WIDTH * ((2 * j + 1) / GRID - 1.0)
            if surface(state, state.x + u * state.cos - w * state.sin, state.y + u * state.sin + w * state.cos)[0] == OFF_ROAD:
                off += 1
    return off > OFF_SHARE * GRID * GRID


@kernel
def remember_motion(state, along, lateral):
    """Keep this step's accelerations and heading for the limits of comfort."""
    for i in range(HISTORY - 1):
        state.along_history[i] = state.along_history[i + 1]
        state.lateral_history[i] = state.lateral_history[i + 1]
        state.total_history[i] = state.total_history[i + 1]
    for i in range(YAWS - 1):
        state.yaw_history[i] = state.yaw_history[i + 1]
    state.along_history[-1], state.lateral_history[-1] = along, lateral
    state.total_history[-1] = math.sqrt(along * along + lateral * lateral)
    state.yaw_history[-1] = state.heading


@kernel
def newest(weights, history):
    """Weighted sum of the newest entries of a history."""
    total, first = 0.0, len(history) - len(weights)
    for i in range(len(weights)):
        total += weights[i] * history[first + i]
    return total


@kernel
def uncomfortable(params, state):
    """Which of the six limits of comfort the motion exceeds, as bits."""
    if state.elapsed < LEAST:
        return 0
    slopes = params.slopes[min(state.elapsed, HISTORY) - LEAST]
    along = newest(params.smooth, state.along_history)
    exceeded = 1 if along < ACCELERATIONS[0] or along > ACCELERATIONS[1] else 0
    if abs(newest(params.smooth, state.lateral_history)) > LATERAL_ACCELERATION:
        exceeded |= 2
    if abs(newest(slopes, state.total_history)) > JERK:
        exceeded |= 4
    if abs(newest(slopes, state.along_history)) > JERK_ALONG:
        exceeded |= 8
    if abs(newest(params.yaw_rate, state.yaw_history)) > YAW_RATE:
        exceeded |= 16
    if abs(newest(params.yaw_acceleration, state.yaw_history)) > YAW_ACCELERATION:
        exceeded |= 32
    return exceeded


def comfort_filters():
    """Weights of the newest samples: quadratics through 8 accelerations, the slopes of those through 8 to 15, and the yaw's.

    The yaw rate is the slope of a quadratic through 5 yaws, its acceleration the second derivative of a cubic.
    """
    slopes = np.zeros((HISTORY - LEAST + 1, HISTORY))
    for n in range(LEAST, HISTORY + 1):
        slopes[n - LEAST, HISTORY - n :] = weights(n, 2, 1)
    return dict(smooth=weights(LEAST, 2, 0), slopes=slopes, yaw_rate=weights(YAWS, 2, 1), yaw_acceleration=weights(YAWS, 3, 2))


def weights(samples, order, derivative):
    """Those which give, at the last of so many samples DT apart, a derivative of the polynomial fitted to them."""
    fit = np.linalg.pinv(np.vander(np.arange(1 - samples, 1) * DT, order + 1, increasing=True))
    return math.factorial(derivative) * fit[derivative]


@kernel
def update_factors(params, state, junction, off_centre):
    """The soft factors of this step, with their memories."""
    state.factor_lanes = 0.0 if state.off_lane else 1.0
    state.factor_speed = min(1.0, max(0.0, 1.0 - (state.speed - state.speed_limit) / OVERSPEED))
    state.ttc_left = max(0, state.ttc_left - 1)
    if is_close(state):
        state.ttc_left = params.penalty_steps
    state.factor_ttc = 0.5 if state.ttc_left > 0 else 1.0
    exceeded, violated = uncomfortable(params, state), 0
    for i in range(6):
        state.comfort_left[i] = params.penalty_steps if exceeded >> i & 1 else max(0, state.comfort_left[i] - 1)
        if state.comfort_left[i] > 0:
            violated += 1
    state.factor_comfort = 1.0 - 0.5 * violated / 6.0
    state.factor_centre = 1.0
    if not junction:
        state.off_centre = max(0, state.off_centre + (1 if off_centre > OFF_CENTRE else -1))
        if state.off_centre > OFF_CENTRE_STEPS:
            state.factor_centre = 0.5


@kernel
def simple(state, gain):
    """Percent of the route gained, times the soft factors."""
    return gain * state.factor_lanes * state.factor_speed * state.factor_ttc * state.factor_comfort * state.factor_centre


@kernel
def additive(params, state, gain):
    """The same with time to collision, speed and comfort as terms of their own, 100 in `additive_steps` steps."""
    share = 100.0 / params.additive_steps
    total = 5.0 * gain * state.factor_lanes
    if state.factor_ttc == 1.0:
        total += 5.0 * share
    if state.factor_speed == 1.0:
        total += 4.0 * share
    if state.factor_comfort == 1.0:
        total += 2.0 * share
    return state.factor_centre * total / 16.0


@kernel
def shaped(params, state):
    """Roach's terms of speed, position, rotation and action."""
    limit = params.shaped_speed if params.shaped_speed > 0.0 else state.speed_limit
    segment = state.route[state.leg]
    s, side = project(state, segment, state.x, state.y)
    turned = state.heading - pose(state, segment, s)[2]
    reward = 1.0 - abs(state.speed - desired_speed(params, state, limit)) / limit
    reward -= 0.5 * abs(side) + abs(math.atan2(math.sin(turned), math.cos(turned)))
    return reward - 0.1 if abs(state.steer - state.last_steer) > STEER_CHANGE else reward


@kernel
def desired_speed(params, state, limit):
    """The speed limit, less near a vehicle or a pedestrian ahead and before a light that isn't green."""
    free = SLOWING
    for actor in range(len(state.present)):
        if state.present[actor] == 1:
            dx, dy = state.actor_x[actor] - state.x, state.actor_y[actor] - state.y
            ahead, side = dx * state.cos + dy * state.sin, dy * state.cos - dx * state.sin
            distance = math.sqrt(dx * dx + dy * dy)
            if distance <= HAZARD and is_hazard(state, actor, abs(math.atan2(side, ahead)), distance):
                stop = STOPS[1] if kind_of(state, actor) == PEDESTRIAN else STOPS[0]
                free = min(free, max(0.0, distance - stop))
    segment = state.route[state.leg]
    if segment < LANES and state.leg + 1 < state.num_legs:
        distance = state.segments[segment, LENGTH] - project(state, segment, state.x, state.y)[0]
        colour = light_of_way(params, state, state.route[state.leg + 1])
        if distance <= LIGHT_DISTANCE and colour in (YELLOW, RED):
            free = min(free, max(0.0, distance - STOP_AT_LIGHT))
    return limit * free / SLOWING


@kernel
def is_hazard(state, actor, angle, distance):
    """Whether an actor within reach, `angle` away from straight ahead, is in the ego's way."""
    if kind_of(state, actor) == PEDESTRIAN:  # only those on the road
        walk = abs(state.walk[actor - len(state.lane) + 1, 4])
        return walk < HALF_ROAD and angle < math.radians(162.0 / (min(max(distance, 1.5), 10.5) + 0.3))
    same = state.cos * state.actor_cos[actor] + state.sin * state.actor_sin[actor]
    return angle < 0.25 * math.pi and same >= math.cos(math.radians(150.0))
