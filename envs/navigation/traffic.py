"""Traffic of a driving episode: lights, vehicles that follow each other and take turns at crossings, pedestrians.

Actors are vehicles, then pedestrians, then the obstacle: one table of poses and speeds of them all. Vehicles follow lanes by
the intelligent driver model (Treiber, Hennecke and Helbing, 2000, arXiv:cond-mat/0002177, eqs. 3 and 4). Before a crossing a
vehicle claims its way: if the light permits it, the lane behind has room, and no one has claimed a way that crosses it. What
leaves the world enters again elsewhere. Pedestrians step onto the road if nobody would have to brake hard, at random.
"""

import math

import numpy as np

from explore_gym.envs.engine import bernoulli, kernel, randint, uniform
from explore_gym.envs.navigation.roads import (
    CURVATURE,
    HALF_ROAD,
    LANES,
    LENGTH,
    OFFSETS,
    WAYS,
    lane_after,
    pose,
    project,
    ways_after,
)

DT = 0.1  # s
VEHICLE, PEDESTRIAN, OBSTACLE = range(3)
HALF_LENGTHS, HALF_WIDTHS = (2.25, 0.3, 2.25), (0.9, 0.3, 0.9)  # m, by kind
EGO_LENGTH, EGO_WIDTH = 2.446, 0.918  # m, half of the ego's sides

NO_LIGHT, GREEN, YELLOW, RED = range(4)
YELLOW_TIME, ALL_RED = 2.0, 0.5  # s

ACCELERATION, BRAKING, HARD_BRAKING = 2.0, 2.0, 8.0  # m/s^2, comfortable and at most
HEADWAY, GAP = 1.2, 2.0  # s, m
FREE = 1e6  # m, gap behind nobody
LATERAL = 3.0  # m/s^2 in bends
PLANNED = 3.0  # m/s^2, with which one decides before a crossing whether to stop
MEET = 8.0  # m before the last place to stop, where one claims a crossing
AT_LINE, SLOW, PATIENCE = 6.0, 0.5, 5  # m, m/s, steps: who has waited there for longer goes first,
IMPATIENCE = 50  # steps; but others let the ego go for so long only, and again later
BEYOND = 99.0  # m on a way that has been left
JAM_LENGTH, JAM_SPEED = 8.0, 2.0  # m behind a crossing, m/s: who is there and so slow leaves no room for another
SPACING = 12.0  # m between vehicles at the start
BEFORE_OBSTACLE, BEHIND_OBSTACLE = 25.0, 30.0  # m of the route that lie at least between it and a crossing or an end
SIGHT = 45.0  # m
SIDE_GAP = 0.3  # m
PAVEMENT = 2.0  # m from the road's edge, where pedestrians wait
PACES, STRIDE = (1.4, 2.0), 0.6  # m/s, m
CROSSING_BRAKING, CROSSING_GAP = 2.0, 12.0  # m/s^2, m that a pedestrian leaves to those who come


def traffic_state(vehicles, pedestrians):
    """Fields of the state record for at most so many."""
    return dict(
        present=(np.uint8, (vehicles + pedestrians + 1,)),
        actor_x=(np.float64, (vehicles + pedestrians + 1,)),
        actor_y=(np.float64, (vehicles + pedestrians + 1,)),
        actor_cos=(np.float64, (vehicles + pedestrians + 1,)),
        actor_sin=(np.float64, (vehicles + pedestrians + 1,)),
        actor_speed=(np.float64, (vehicles + pedestrians + 1,)),
        num_vehicles=np.int64,
        lane=(np.int64, (vehicles + 1,)),  # segment; the last entry of these is the obstacle's
        along=(np.float64, (vehicles + 1,)),
        following=(np.int64, (vehicles + 1,)),  # the segment after that, -1 if the vehicle leaves
        claim=(np.int64, (vehicles + 1,)),  # way through a crossing, -1 for none
        waited=(np.int64, (vehicles + 1,)),  # steps at the line of a crossing
        desired=(np.float64, (vehicles + 1,)),  # m/s
        acceleration=(np.float64, (vehicles + 1,)),
        lights=(np.uint8, (2,)),  # whether a crossing has any
        light_times=(np.float64, (2,)),  # s into the cycle at the start
        walk=(np.float64, (pedestrians + 1, 7)),  # x, y of the crossing's middle, its cos and sin, place on it, direction, pace
        walking=(np.uint8, (pedestrians + 1,)),
    )


@kernel
def kind_of(state, actor):
    if actor < len(state.lane) - 1:
        return VEHICLE
    return PEDESTRIAN if actor < len(state.present) - 1 else OBSTACLE


@kernel
def light_time(params, state, crossing, arm):
    """Seconds since those who come by an arm last got green: opposite arms alike, the others half a cycle later."""
    return (state.elapsed * DT + state.light_times[crossing] + 0.5 * params.cycle * (arm % 2)) % params.cycle


@kernel
def light(params, state, crossing, arm):
    """What is shown to those who come by an arm."""
    if state.lights[crossing] == 0:
        return NO_LIGHT
    time, until_red = light_time(params, state, crossing, arm), 0.5 * params.cycle - ALL_RED
    if time < until_red - YELLOW_TIME:
        return GREEN
    return YELLOW if time < until_red else RED


@kernel
def light_of_way(params, state, way):
    return light(params, state, (way - LANES) // WAYS, (way - LANES) % WAYS // 4)


@kernel
def idm(speed, desired, gap, closing):
    """Acceleration in m/s^2 behind a leader `gap` metres ahead, to whom the distance shrinks by `closing` m/s."""
    wanted = GAP + max(0.0, speed * HEADWAY + speed * closing / (2.0 * math.sqrt(ACCELERATION * BRAKING)))
    pace, closeness = speed / desired, wanted / max(gap, 0.1)
    return max(-HARD_BRAKING, ACCELERATION * (1.0 - pace * pace * pace * pace - closeness * closeness))


@kernel
def populate(params, state):
    """Draw lights, the obstacle on the route, vehicles and pedestrians."""
    for actor in range(len(state.present)):
        state.present[actor] = 0
        state.actor_x[actor], state.actor_y[actor], state.actor_speed[actor] = 0.0, 0.0, 0.0
        state.actor_cos[actor], state.actor_sin[actor] = 1.0, 0.0
    for i in range(len(state.lane)):
        state.lane[i], state.along[i], state.following[i], state.claim[i] = -1, 0.0, -1, -1
        state.desired[i], state.acceleration[i], state.waited[i] = 1.0, 0.0, 0
    for crossing in range(2):
        state.lights[crossing], state.light_times[crossing] = 0, uniform(state, 0.0, params.cycle)
    state.lights[randint(state, state.num_crossings)] = 1
    if state.num_crossings == 2 and bernoulli(state, 0.5):
        state.lights[0], state.lights[1] = 1, 1
    if params.obstacle:
        place_obstacle(state)
    state.num_vehicles = params.fewest_vehicles + randint(state, params.most_vehicles - params.fewest_vehicles + 1)
    for i in range(state.num_vehicles):
        place_vehicle(params, state, i)
    for i in range(len(state.walk)):
        state.walking[i] = 0
        for j in range(7):
            state.walk[i, j] = 0.0
    for i in range(len(state.walk) - 1):
        place_pedestrian(state, i)


@kernel
def place_obstacle(state):
    """In a lane of the route; the shortest route, of 150 m, has the room in one of its two."""
    room = 0.0
    while room <= 0.0:
        leg = 2 * randint(state, (state.num_legs + 1) // 2)
        low, high = place_on(state, leg, BEFORE_OBSTACLE, BEHIND_OBSTACLE)
        room = high - low
    me, last = len(state.present) - 1, len(state.lane) - 1
    state.lane[last], state.along[last] = state.route[leg], uniform(state, low, high)
    x, y, heading = pose(state, state.lane[last], state.along[last])
    state.present[me], state.actor_x[me], state.actor_y[me] = 1, x, y
    state.actor_cos[me], state.actor_sin[me] = math.cos(heading), math.sin(heading)


@kernel
def place_on(state, leg, behind, ahead):
    """The metres of a leg of the route that are so far from its ends, or the route's."""
    low, high = behind, state.segments[state.route[leg], LENGTH] - ahead
    if leg == 0:
        low += state.route_start
    if leg == state.num_legs - 1:
        high = state.route_end - state.route_starts[leg] - ahead
    return low, high


@kernel
def place_vehicle(params, state, i):
    """Somewhere in a lane without the obstacle, with a gap to others and to the ego."""
    free = False
    while not free:
        lane = randint(state, 4 * state.num_roads)
        s = uniform(state, 5.0, state.segments[lane, LENGTH] - 5.0)
        free = lane != state.lane[-1] and not (lane == state.route[0] and abs(s - state.route_start) < 2.0 * SPACING)
        for j in range(i):
            if state.lane[j] == lane and abs(state.along[j] - s) < SPACING:
                free = False
    enter(params, state, i, lane, s)


@kernel
def enter(params, state, i, lane, s):
    state.present[i], state.lane[i], state.along[i], state.claim[i], state.waited[i] = 1, lane, s, -1, 0
    state.desired[i] = state.speed_limit * uniform(state, 0.7, 1.0)
    state.actor_speed[i], state.acceleration[i] = 0.7 * state.desired[i], 0.0
    state.following[i] = turn(state, lane)
    show(state, i)


@kernel
def turn(state, lane):
    """One of the two ways from the end of a lane, at random, but not into the obstacle's; -1 if it leads out of the world."""
    way = ways_after(state, lane)
    if way < 0:
        return way
    choice = randint(state, 2)
    if lane_after(state, way + choice) == state.lane[-1]:
        choice = 1 - choice
    return way + choice


@kernel
def show(state, i):
    """Enter a vehicle's place in the table of actors."""
    x, y, heading = pose(state, state.lane[i], state.along[i])
    state.actor_x[i], state.actor_y[i] = x, y
    state.actor_cos[i], state.actor_sin[i] = math.cos(heading), math.sin(heading)


@kernel
def place_pedestrian(state, i):
    """Beside a lane of the route, 15 m or more from crossings, 30 m from the route's start."""
    room = 0.0
    while room <= 0.0:
        leg = 2 * randint(state, (state.num_legs + 1) // 2)
        low, high = place_on(state, leg, 30.0 if leg == 0 else 15.0, 15.0)
        room = high - low
    lane = state.route[leg]
    x, y, heading = pose(state, lane, uniform(state, low, high))
    walk = state.walk[i]
    walk[2], walk[3] = -math.sin(heading), math.cos(heading)  # across the road
    walk[0], walk[1] = x + OFFSETS[lane % 2] * walk[2], y + OFFSETS[lane % 2] * walk[3]
    walk[5] = 1.0 if bernoulli(state, 0.5) else -1.0
    walk[4], walk[6] = -walk[5] * (HALF_ROAD + PAVEMENT), uniform(state, PACES[0], PACES[1])
    show_pedestrian(state, i)


@kernel
def show_pedestrian(state, i):
    me, walk = len(state.lane) - 1 + i, state.walk[i]
    state.present[me] = 1
    state.actor_x[me], state.actor_y[me] = walk[0] + walk[4] * walk[2], walk[1] + walk[4] * walk[3]
    state.actor_cos[me], state.actor_sin[me] = walk[5] * walk[2], walk[5] * walk[3]
    state.actor_speed[me] = walk[6] if state.walking[i] == 1 else 0.0


@kernel
def drive_vehicles(params, state):
    for i in range(state.num_vehicles):
        if state.present[i] == 1:
            state.acceleration[i] = accelerate(params, state, i)
    for i in range(state.num_vehicles):
        if state.present[i] == 1:
            move(state, i)
        else:
            come_back(params, state, i)


@kernel
def accelerate(params, state, i):
    """A vehicle's acceleration: the least that its leaders, the crossing, the ego and pedestrians leave it."""
    lane, along, speed, way = state.lane[i], state.along[i], state.actor_speed[i], state.following[i]
    rest = state.segments[lane, LENGTH] - along
    approaching = way >= LANES
    after = lane_after(state, way) if approaching else -1
    wanted = min(state.desired[i], speed_on(state, lane))
    if approaching:
        slow = speed_on(state, way)
        wanted = min(wanted, math.sqrt(slow * slow + 2.0 * BRAKING * max(0.0, rest)))
    acceleration, room = idm(speed, wanted, FREE, 0.0), True
    for j in range(state.num_vehicles):
        if j == i or state.present[j] == 0:
            continue
        other, ahead = state.lane[j], -1.0
        if other == lane and state.along[j] > along:
            ahead = state.along[j] - along
        elif other == way:
            ahead = rest + state.along[j]
        elif other == after and approaching:
            ahead = rest + state.segments[way, LENGTH] + state.along[j]
            room = room and not (state.along[j] < JAM_LENGTH and state.actor_speed[j] < JAM_SPEED)
        elif other >= LANES and state.along[j] < 9.0:  # still beside those that leave the same lane another way
            if approaching and other // 2 == way // 2:
                ahead = rest + state.along[j]
            elif lane >= LANES and other // 2 == lane // 2 and state.along[j] > along:
                ahead = state.along[j] - along
        if ahead >= 0.0:
            gap = ahead - 2.0 * HALF_LENGTHS[VEHICLE]
            acceleration = min(acceleration, idm(speed, wanted, gap, speed - state.actor_speed[j]))
    if approaching:
        stop = rest - HALF_LENGTHS[VEHICLE]
        if not may_enter(params, state, i, way, stop, speed, room):
            acceleration = min(acceleration, idm(speed, wanted, stop + 0.5 * GAP, speed))
    return min(acceleration, mind_others(state, i, wanted, after))


@kernel
def speed_on(state, segment):
    """m/s that a bend permits."""
    return math.sqrt(LATERAL / max(abs(state.segments[segment, CURVATURE]), 1e-4))


@kernel
def may_enter(params, state, i, way, stop, speed, room):
    """Whether a vehicle whose front is `stop` metres before a crossing may go on, claiming its way if need be."""
    if stop < 0.0:
        return True
    colour = light_of_way(params, state, way)
    distance = speed * speed / (2.0 * PLANNED)
    go = colour != RED and (colour != YELLOW or stop < distance)
    state.waited[i] = state.waited[i] + 1 if speed < SLOW and stop < AT_LINE else 0
    if not go or not room:
        state.claim[i] = -1
        return False
    if state.claim[i] != way and stop < distance + MEET and not gives_way(params, state, i, way, state.waited[i]):
        state.claim[i] = way
    return state.claim[i] == way or stop >= distance + MEET


@kernel
def crosses(params, way, other):
    """Whether vehicles on two ways through the same crossing would touch."""
    if other < LANES or (other - LANES) // WAYS != (way - LANES) // WAYS:
        return False
    return params.conflicts[(way - LANES) % WAYS] >> (other - LANES) % WAYS & 1 == 1


@kernel
def blocks(params, state, way, j):
    """Whether vehicle j (-1: the ego) has claimed a way that crosses this one, and isn't past where they meet."""
    other, along = state.ego_claim, state.ego_along
    if j >= 0:
        other, along = state.claim[j], -1.0
        if state.lane[j] == other:
            along = state.along[j]
        elif state.following[j] != other:
            along = BEYOND
    return crosses(params, way, other) and along < params.clear[(way - LANES) % WAYS, (other - LANES) % WAYS]


@kernel
def gives_way(params, state, i, way, waited):
    """Whether somebody but i (-1: the ego) blocks a way, or has waited longer, and long, for one that crosses it."""
    least = max(waited, PATIENCE)
    for j in range(state.num_vehicles):
        if j != i:
            other, waits = state.following[j], state.waited[j] > least
            if waits and crosses(params, way, other) and light_of_way(params, state, other) != RED:
                return True
            if blocks(params, state, way, j):
                return True
    if i < 0:
        return False
    waits = state.ego_waited > least and state.ego_let % (2 * IMPATIENCE) < IMPATIENCE
    return (waits and crosses(params, way, state.ego_way)) or blocks(params, state, way, -1)


@kernel
def look_along(state, lane, along, way, after, x, y):
    """Metres ahead on a path of up to three segments, -1 for the missing, where (x, y) is beside it, and metres to its left."""
    s, side = project(state, lane, x, y)
    passed = state.segments[lane, LENGTH]
    if s <= passed or way < 0:
        return s - along, side
    s, side = project(state, way, x, y)
    if s > state.segments[way, LENGTH] and after >= 0:
        passed += state.segments[way, LENGTH]
        s, side = project(state, after, x, y)
    return passed + max(s, 0.0) - along, side


@kernel
def mind_others(state, i, wanted, after):
    """The acceleration that the ego and pedestrians ahead leave a vehicle."""
    x, y, cos, sin, speed = state.actor_x[i], state.actor_y[i], state.actor_cos[i], state.actor_sin[i], state.actor_speed[i]
    lane, along, way = state.lane[i], state.along[i], state.following[i]
    acceleration = HARD_BRAKING
    dx, dy = state.x - x, state.y - y
    if dx * dx + dy * dy < SIGHT * SIGHT and dx * cos + dy * sin > 0.0:
        ahead, side = look_along(state, lane, along, way, after, state.x, state.y)
        same, across = cos * state.cos + sin * state.sin, abs(cos * state.sin - sin * state.cos)
        width = HALF_WIDTHS[VEHICLE] + abs(same) * EGO_WIDTH + across * EGO_LENGTH + SIDE_GAP
        if ahead > 0.0 and abs(side) < width:
            gap = ahead - HALF_LENGTHS[VEHICLE] - abs(same) * EGO_LENGTH - across * EGO_WIDTH
            acceleration = idm(speed, wanted, gap, speed - max(0.0, same * state.speed))
    for j in range(len(state.walk) - 1):
        walker = len(state.lane) - 1 + j
        if state.walking[j] == 0:
            continue
        dx, dy = state.actor_x[walker] - x, state.actor_y[walker] - y
        if dx * dx + dy * dy < SIGHT * SIGHT and dx * cos + dy * sin > 0.0:
            ahead, side = look_along(state, lane, along, way, after, state.actor_x[walker], state.actor_y[walker])
            sideways = (cos * state.actor_sin[walker] - sin * state.actor_cos[walker]) * state.actor_speed[walker]
            if ahead > 0.0 and in_the_way(side, sideways):
                acceleration = min(acceleration, idm(speed, wanted, ahead - HALF_LENGTHS[VEHICLE] - 1.0, speed))
    return acceleration


@kernel
def in_the_way(side, sideways):
    """Whether a pedestrian `side` metres to the left, who walks left with `sideways` m/s, is ahead now or within 2.5 s."""
    near = HALF_WIDTHS[VEHICLE] + HALF_WIDTHS[PEDESTRIAN] + 0.6
    return abs(side) < near or (side * sideways < 0.0 and abs(side) < near + 2.5 * abs(sideways))


@kernel
def move(state, i):
    """Drive on along lanes and ways; beyond the end of the world a vehicle is gone."""
    speed = max(0.0, state.actor_speed[i] + DT * state.acceleration[i])
    state.along[i] += 0.5 * DT * (speed + state.actor_speed[i])
    state.actor_speed[i] = speed
    if state.along[i] > state.segments[state.lane[i], LENGTH]:
        if state.following[i] < 0:
            remove(state, i)
            return
        state.along[i] -= state.segments[state.lane[i], LENGTH]
        state.lane[i] = state.following[i]
        state.following[i] = lane_after(state, state.lane[i]) if state.lane[i] >= LANES else turn(state, state.lane[i])
    if state.lane[i] < LANES and HALF_LENGTHS[VEHICLE] < state.along[i] < 4.0 * HALF_LENGTHS[VEHICLE]:
        state.claim[i] = -1  # its rear has left the crossing
    show(state, i)


@kernel
def remove(state, i):
    state.present[i], state.lane[i], state.claim[i], state.following[i], state.waited[i] = 0, -1, -1, -1, 0
    state.actor_speed[i], state.acceleration[i] = 0.0, 0.0


@kernel
def come_back(params, state, i):
    """Enter at the end of a random road, unless there is the obstacle, someone near, or the ego in sight."""
    lane = 4 * randint(state, state.num_roads) + 2 + randint(state, 2)
    if (lane // 4 == state.shared and state.shared > 0) or lane == state.lane[-1]:
        return
    x, y, _ = pose(state, lane, HALF_LENGTHS[VEHICLE])
    dx, dy = x - state.x, y - state.y
    if dx * dx + dy * dy < SIGHT * SIGHT:
        return
    for j in range(state.num_vehicles):
        if state.lane[j] == lane and state.along[j] < 2.0 * SPACING:
            return
    enter(params, state, i, lane, HALF_LENGTHS[VEHICLE])


@kernel
def walk_pedestrians(params, state):
    for i in range(len(state.walk) - 1):
        walk = state.walk[i]
        if state.walking[i] == 1:
            if not walks_into_ego(state, walk):
                walk[4] += DT * walk[5] * walk[6]
            if walk[5] * walk[4] >= HALF_ROAD + PAVEMENT:
                state.walking[i] = 0
                walk[4], walk[5] = walk[5] * (HALF_ROAD + PAVEMENT), -walk[5]
        elif bernoulli(state, params.crossing_rate * DT) and road_is_clear(state, walk[0], walk[1]):
            state.walking[i] = 1
        show_pedestrian(state, i)


@kernel
def walks_into_ego(state, walk):
    """Whether the ego stands or drives less than a step ahead of a pedestrian."""
    place = walk[4] + STRIDE * walk[5]
    dx, dy = walk[0] + place * walk[2] - state.x, walk[1] + place * walk[3] - state.y
    margin = HALF_WIDTHS[PEDESTRIAN] + 0.2
    return (
        abs(dx * state.cos + dy * state.sin) < EGO_LENGTH + margin and abs(dy * state.cos - dx * state.sin) < EGO_WIDTH + margin
    )


@kernel
def road_is_clear(state, x, y):
    """Whether nobody who is coming would have to brake hard for someone at (x, y)."""
    if is_coming(state.x, state.y, state.cos, state.sin, state.speed, x, y):
        return False
    for i in range(state.num_vehicles):
        if state.present[i] == 1 and is_coming(
            state.actor_x[i], state.actor_y[i], state.actor_cos[i], state.actor_sin[i], state.actor_speed[i], x, y
        ):
            return False
    return True


@kernel
def is_coming(from_x, from_y, cos, sin, speed, x, y):
    dx, dy = x - from_x, y - from_y
    reach = speed * speed / (2.0 * CROSSING_BRAKING) + CROSSING_GAP
    return dx * dx + dy * dy < reach * reach and dx * cos + dy * sin > 0.0
