"""A scripted driver for Driving, vectorised over the lanes of a batch: what can be reached without learning.

    envs = gym.make_vec("Explore/Driving-Eval-v0", num_envs=100, autoreset_mode="SameStep")
    returns, info = play(envs, RuleDriver(envs.unwrapped), seed=0)

In the manner of PDM (Dauner et al., 2023, Parting with misconceptions about learning-based vehicle motion planning,
arXiv:2306.07962) it follows the route's line and chooses its speed by the intelligent driver model. It stops at lights, lets
those pass who have claimed a crossing or walk across, and passes the obstacle in the other lane of its side once that is free.
It reads the state, the clocks of the lights and the claims included, not the observation.
"""

import math

import numpy as np

from explore_gym.envs.bandits.policies import play
from explore_gym.envs.engine import kernel
from explore_gym.envs.navigation.driving import BRAKE, STEER, THRUST, WHEELBASE
from explore_gym.envs.navigation.roads import CURVATURE, LANE, LANES, LENGTH, WAYS, pose, project
from explore_gym.envs.navigation.traffic import (
    ALL_RED,
    DT,
    EGO_LENGTH,
    EGO_WIDTH,
    FREE,
    GAP,
    HALF_LENGTHS,
    HALF_WIDTHS,
    JAM_LENGTH,
    JAM_SPEED,
    LATERAL,
    PLANNED,
    RED,
    SIGHT,
    VEHICLE,
    YELLOW,
    gives_way,
    idm,
    in_the_way,
    light_of_way,
    light_time,
    look_along,
)

__all__ = ["RuleDriver", "play"]

PACE = 0.95  # of the speed limit
CRUISE = 1.2  # m/s^2, with which it slows down for bends
FOREVER = 1_000_000  # steps
SET_OFF = 1.0  # m/s^2, less than it manages when it drives on at yellow
PASS_FROM, PASS_TO = 28.0, -7.5  # m before the obstacle, in which it passes
PASSING = 6.0  # m that it leaves to the obstacle while it waits
CLEAR = 2.1  # m from the obstacle's line, at which it is passed
ROOM_AHEAD, ROOM_BEHIND, TIME_AHEAD, TIME_BEHIND = 8.0, 8.0, 1.0, 3.0  # m and s to those in the other lane
LOOK, LOOK_TIME = 4.0, 0.6  # m, s: how far ahead it aims
BESIDE = 0.6  # m
CHANGE, EMERGENCY = 0.5, -3.0  # m/s^2 by which its acceleration changes per step, unless it has to brake harder than this


class RuleDriver:
    """The driver.

    Args:
        envs: a vector environment of Driving.
    """

    def __init__(self, envs):
        self.envs = envs

    def reset(self, mask):
        """It keeps no memory."""

    def update(self, action, reward):
        """It learns nothing."""

    def act(self, obs):
        """Actions float32 (num_envs, 2)."""
        actions = np.zeros((self.envs.num_envs, 2), np.float32)
        plan_all(self.envs.env.params, self.envs.get_state(), actions)
        return actions


@kernel
def plan_all(params, states, actions):
    for i in range(len(states)):
        plan(params[0], states[i], actions[i])


@kernel
def plan(params, state, action):
    """Steering and acceleration for one state."""
    s, side = project(state, state.route[state.leg], state.x, state.y)
    place = state.route_starts[state.leg] + s
    target = wanted_side(state, place, side)
    ahead = LOOK + LOOK_TIME * state.speed
    x, y, heading = pose_on_route(state, place + ahead)
    dx, dy = x - target * math.sin(heading) - state.x, y + target * math.cos(heading) - state.y
    left = dy * state.cos - dx * state.sin
    wheels = math.atan(2.0 * left / (dx * dx + dy * dy) * WHEELBASE)
    action[0] = min(1.0, max(-1.0, wheels / STEER))
    acceleration = wanted_acceleration(params, state, place, s, side, target)
    if acceleration > EMERGENCY:
        acceleration = max(acceleration, state.acceleration_along - CHANGE)
    acceleration = min(acceleration, state.acceleration_along + CHANGE)
    action[1] = min(1.0, max(-1.0, acceleration / (THRUST if acceleration > 0.0 else BRAKE)))


@kernel
def pose_on_route(state, place):
    leg = 0
    while leg + 1 < state.num_legs and place > state.route_starts[leg + 1]:
        leg += 1
    return pose(state, state.route[leg], place - state.route_starts[leg])


@kernel
def obstacle_leg(state):
    """The leg of the route on which the obstacle stands, -1 if there is none."""
    for leg in range(state.num_legs):
        if state.route[leg] == state.lane[-1]:
            return leg
    return -1


@kernel
def wanted_side(state, place, side):
    """Metres to the left of the route where it wants to drive: the other lane beside the obstacle, if that has room."""
    leg = obstacle_leg(state)
    if leg < 0:
        return 0.0
    ahead = state.route_starts[leg] + state.along[-1] - place
    if not PASS_TO < ahead < PASS_FROM:
        return 0.0
    shift = LANE if state.route[leg] % 2 == 0 else -LANE
    passing = side * shift > 0.4 * LANE * LANE
    return shift if passing or has_room(state, state.route[leg], place - state.route_starts[leg]) else 0.0


@kernel
def has_room(state, lane, s):
    """Whether the lane beside has room at s, ahead and for those who come from behind."""
    beside = lane + 1 - 2 * (lane % 2)
    for i in range(state.num_vehicles):
        ahead = FREE
        if state.lane[i] == beside:
            ahead = state.along[i] - s
        elif state.lane[i] >= LANES and state.following[i] == beside:
            ahead = state.along[i] - state.segments[state.lane[i], LENGTH] - s
        closing = state.speed - state.actor_speed[i]
        if 0.0 <= ahead < ROOM_AHEAD + TIME_AHEAD * max(0.0, closing):
            return False
        if -ROOM_BEHIND - TIME_BEHIND * max(0.0, -closing) < ahead < 0.0:
            return False
    return True


@kernel
def wanted_acceleration(params, state, place, s, side, target):
    segment = state.route[state.leg]
    way = state.route[state.leg + 1] if state.leg + 1 < state.num_legs else -1
    after = state.route[state.leg + 2] if state.leg + 2 < state.num_legs else -1
    wanted = PACE * state.speed_limit
    for leg in range(state.leg, min(state.leg + 3, state.num_legs)):
        slow = math.sqrt(LATERAL / max(abs(state.segments[state.route[leg], CURVATURE]), 1e-4))
        distance = max(0.0, state.route_starts[leg] - place)
        wanted = min(wanted, math.sqrt(slow * slow + 2.0 * CRUISE * distance))
    acceleration = idm(state.speed, wanted, FREE, 0.0)
    for i in range(state.num_vehicles):
        if state.present[i] == 1:
            acceleration = min(acceleration, behind_vehicle(state, i, segment, s, way, after, side, target, wanted))
    for i in range(len(state.walk) - 1):
        if state.walking[i] == 1:
            acceleration = min(acceleration, behind_walker(state, i, segment, s, way, after, target, wanted))
    acceleration = min(acceleration, behind_obstacle(state, place, side, target, wanted))
    for leg in range(state.leg + 1, state.num_legs):
        if state.route[leg] >= LANES:
            stop = state.route_starts[leg] - place - EGO_LENGTH
            if 0.0 <= stop < SIGHT and not may_go(params, state, leg, stop):
                acceleration = min(acceleration, idm(state.speed, wanted, stop + 0.5 * GAP, state.speed))
    return acceleration


@kernel
def behind_vehicle(state, i, segment, s, way, after, side, target, wanted):
    x, y = state.actor_x[i], state.actor_y[i]
    dx, dy = x - state.x, y - state.y
    if dx * dx + dy * dy > SIGHT * SIGHT or dx * state.cos + dy * state.sin < 0.0:
        return FREE
    ahead, left = look_along(state, segment, s, way, after, x, y)
    same = state.cos * state.actor_cos[i] + state.sin * state.actor_sin[i]
    across = abs(state.cos * state.actor_sin[i] - state.sin * state.actor_cos[i])
    width = EGO_WIDTH + HALF_WIDTHS[VEHICLE] + across * HALF_LENGTHS[VEHICLE] + 0.3
    if ahead < 0.0 or (abs(left - target) > width and abs(left - side) > width):
        return FREE
    gap = ahead - EGO_LENGTH - abs(same) * HALF_LENGTHS[VEHICLE] - across * HALF_WIDTHS[VEHICLE]
    return idm(state.speed, wanted, gap, state.speed - max(0.0, same * state.actor_speed[i]))


@kernel
def behind_walker(state, i, segment, s, way, after, target, wanted):
    me = len(state.lane) - 1 + i
    dx, dy = state.actor_x[me] - state.x, state.actor_y[me] - state.y
    forwards, aside = dx * state.cos + dy * state.sin, abs(dy * state.cos - dx * state.sin)
    if dx * dx + dy * dy > SIGHT * SIGHT or forwards < 0.0:
        return FREE
    if forwards < EGO_LENGTH + BESIDE and aside > EGO_WIDTH + BESIDE:  # who waits for it to pass
        return FREE
    ahead, left = look_along(state, segment, s, way, after, state.actor_x[me], state.actor_y[me])
    sideways = (state.cos * state.actor_sin[me] - state.sin * state.actor_cos[me]) * state.actor_speed[me]
    if ahead < 0.0 or not in_the_way(left - target, sideways):
        return FREE
    return idm(state.speed, wanted, ahead - EGO_LENGTH - 1.5, state.speed)


@kernel
def behind_obstacle(state, place, side, target, wanted):
    """In its lane it stops before the obstacle with room to steer around it, and passes only clear of it."""
    leg = obstacle_leg(state)
    if leg < 0:
        return FREE
    gap = state.route_starts[leg] + state.along[-1] - place - EGO_LENGTH - HALF_LENGTHS[VEHICLE]
    if gap < 0.0 or gap > SIGHT or abs(side) > CLEAR:
        return FREE
    if target == 0.0:
        gap -= PASSING
    return idm(state.speed, wanted, gap + 0.5 * GAP, state.speed)


@kernel
def may_go(params, state, leg, stop):
    """Whether light and claims let it go on, from `stop` metres before a crossing."""
    way, reach = state.route[leg], state.speed * state.speed / (2.0 * PLANNED)
    colour = light_of_way(params, state, way)
    if colour == RED:
        return False
    if colour == YELLOW:
        time = light_time(params, state, (way - LANES) // WAYS, (way - LANES) % WAYS // 4)
        left = 0.5 * params.cycle - ALL_RED - time - DT
        if stop > left * (state.speed + 0.5 * SET_OFF * left):
            return False
    if stop > reach + 12.0:
        return True
    waited = FOREVER if state.ego_claim == way else state.ego_waited  # it goes on before those who let it set off
    if gives_way(params, state, -1, way, waited):
        return False
    for i in range(state.num_vehicles):  # the crossing must be left again
        if state.lane[i] == state.route[leg + 1] and state.along[i] < JAM_LENGTH and state.actor_speed[i] < JAM_SPEED:
            return False
    return True
