"""Roads of a driving episode: two-way roads of two lanes each way, which meet in one or two crossings of four arms.

Whatever vehicles follow is a segment, a line or an arc: a row (x, y, heading, curvature, length, cos, sin) of its start, the
last two of the heading. There are 4 for the lanes of each road, 16 for the ways through each crossing, and each road's centre
line. Arm 0 of the first crossing is where the route comes from; the others follow counterclockwise, seen from above. Vehicles
keep to the right. The second crossing lies at the end of one of the first one's arms, and that road is its arm 0.

Numbers: roads 0 to 3 are the first crossing's arms, 4 to 6 arms 1 to 3 of the second; stored from the crossing outwards.
A lane is 4 * road + 2 * inwards + left; a way through a crossing LANES + 16 * crossing + 4 * arm + kind, where kind is 0 for
right and 1 for straight on from the right lane, 2 for straight on and 3 for left from the left lane.
"""

import math

import numpy as np

from explore_gym.envs.engine import kernel, randint, uniform

LANE = 3.5  # m
HALF_ROAD = 2.0 * LANE
HALF_CROSSING = 14.0  # m, half a side of a crossing's square; its corners are rounded with the radius HALF_ROAD
OFFSETS = (1.5 * LANE, 0.5 * LANE)  # m, of the right and the left lane from the road's centre line
MAX_ROADS = 7
LANES, WAYS = 4 * MAX_ROADS, 16  # segments of lanes, of the ways through a crossing
CENTRES = LANES + 2 * WAYS  # the first of the centre lines
SEGMENTS = CENTRES + MAX_ROADS
X, Y, HEADING, CURVATURE, LENGTH, COS, SIN = range(7)

TURNS = (1, 2, 2, 3)  # arms further on, by kind
RADIUS_RIGHT, RADIUS_LEFT = HALF_CROSSING - OFFSETS[0], HALF_CROSSING + OFFSETS[1]
CURVATURES = (-1.0 / RADIUS_RIGHT, 0.0, 0.0, 1.0 / RADIUS_LEFT)
WAY_LENGTHS = (0.5 * math.pi * RADIUS_RIGHT, 2.0 * HALF_CROSSING, 2.0 * HALF_CROSSING, 0.5 * math.pi * RADIUS_LEFT)

MAX_BEND = 15.0  # degrees between the ends of a road: roads of different crossings can't meet
MARGIN_START, MARGIN_END = 15.0, 25.0  # m of road behind the route's start and beyond its end
SHORTEST_MIDDLE, SHORTEST_TWO = 90.0, 260.0  # m between two crossings, of a route through them
SIDE_ROADS = (60.0, 80.0)  # m, roads that aren't on the route
PAST = 3.0  # m from where two ways part to where the middle of a vehicle is past it
OFF_ROAD, ON_CROSSING = -1, MAX_ROADS  # what `surface` says beside the number of a road


def roads_state():
    """Fields of the state record."""
    return dict(
        segments=(np.float64, (SEGMENTS, 7)),
        crossings=(np.float64, (2, 4)),  # x, y of the middle, cos and sin of the heading in which the route arrives
        num_crossings=np.int64,
        num_roads=np.int64,
        shared=np.int64,  # road between the crossings, 0 if there is none
        route=(np.int64, (5,)),  # segments, -1 behind the last
        route_starts=(np.float64, (5,)),  # m of route before each
        num_legs=np.int64,
        route_start=np.float64,  # m, where the ego starts
        route_end=np.float64,
    )


@kernel
def pose(state, segment, s):
    """x, y and heading s metres along a segment."""
    row = state.segments[segment]
    k = row[CURVATURE]
    u, w = s, 0.0
    if k != 0.0:
        u, w = math.sin(k * s) / k, (1.0 - math.cos(k * s)) / k
    return row[X] + u * row[COS] - w * row[SIN], row[Y] + u * row[SIN] + w * row[COS], row[HEADING] + k * s


@kernel
def project(state, segment, x, y):
    """Metres along a segment of the nearest point on its line or circle, and metres by which (x, y) is left of it."""
    row = state.segments[segment]
    dx, dy, k = x - row[X], y - row[Y], row[CURVATURE]
    u, w = dx * row[COS] + dy * row[SIN], dy * row[COS] - dx * row[SIN]
    if k == 0.0:
        return u, w
    p, q = k * u, 1.0 - k * w
    return math.atan2(p, q) / k, (1.0 - math.sqrt(p * p + q * q)) / k


@kernel
def lay(state, segment, x, y, heading, curvature, length):
    row = state.segments[segment]
    row[X], row[Y], row[HEADING], row[CURVATURE], row[LENGTH] = x, y, heading, curvature, length
    row[COS], row[SIN] = math.cos(heading), math.sin(heading)


@kernel
def lay_road(params, state, road, crossing, arm, length):
    """A road's centre line, from an arm of a crossing outwards, and its lanes."""
    x, y, cos, sin = state.crossings[crossing]
    heading = math.atan2(sin, cos) + math.pi + 0.5 * math.pi * arm
    x, y = x + HALF_CROSSING * math.cos(heading), y + HALF_CROSSING * math.sin(heading)
    curvature = uniform(state, -1.0, 1.0) * params.bend / length
    lay(state, CENTRES + road, x, y, heading, curvature, length)
    for inwards in range(2):
        if inwards == 1:
            x, y, heading = pose(state, CENTRES + road, length)
            heading, curvature = heading + math.pi, -curvature
        for left in range(2):
            offset = OFFSETS[left]
            stretch = 1.0 + curvature * offset  # the lane is that much longer than the centre line
            start_x, start_y = x + offset * math.sin(heading), y - offset * math.cos(heading)
            lay(state, 4 * road + 2 * inwards + left, start_x, start_y, heading, curvature / stretch, length * stretch)


@kernel
def lay_crossing(state, crossing, x, y, heading):
    """A crossing and the ways through it."""
    state.crossings[crossing, 0], state.crossings[crossing, 1] = x, y
    state.crossings[crossing, 2], state.crossings[crossing, 3] = math.cos(heading), math.sin(heading)
    for arm in range(4):
        direction = heading + 0.5 * math.pi * arm
        cos, sin = math.cos(direction), math.sin(direction)
        for kind in range(4):
            offset = OFFSETS[kind // 2]
            start_x, start_y = x - HALF_CROSSING * cos + offset * sin, y - HALF_CROSSING * sin - offset * cos
            way = LANES + WAYS * crossing + 4 * arm + kind
            lay(state, way, start_x, start_y, direction, CURVATURES[kind], WAY_LENGTHS[kind])


@kernel
def build(params, state):
    """Draw roads, crossings and the route."""
    for i in range(SEGMENTS):
        for j in range(7):
            state.segments[i, j] = 0.0
    for i in range(4):
        state.crossings[1, i] = 0.0
    two = params.fewest_crossings + randint(state, params.most_crossings - params.fewest_crossings + 1) == 2
    shortest = max(params.shortest, SHORTEST_TWO) if two else params.shortest
    left = randint(state, 2)  # the lane in which the route comes and leaves
    kind, last_kind = 2 * left + randint(state, 2), 2 * left + randint(state, 2)
    rest = uniform(state, shortest, params.longest) - WAY_LENGTHS[kind]
    middle = 0.0
    if two:
        rest -= WAY_LENGTHS[last_kind]
        middle = uniform(state, SHORTEST_MIDDLE, max(SHORTEST_MIDDLE, min(150.0, rest - 100.0)))
        rest -= middle
    first = rest * uniform(state, 0.4, 0.6)
    state.num_crossings, state.num_roads, state.shared = 1, 4, 0
    lay_crossing(state, 0, 0.0, 0.0, 0.0)
    out = TURNS[kind]  # the arm by which the route leaves the first crossing
    for arm in range(4):
        length = uniform(state, SIDE_ROADS[0], SIDE_ROADS[1])
        if arm == 0:
            length = first + MARGIN_START
        elif arm == out:
            length = middle if two else rest - first + MARGIN_END
        lay_road(params, state, arm, 0, arm, length)
    if two:
        state.num_crossings, state.num_roads, state.shared = 2, 7, out
        x, y, heading = pose(state, CENTRES + out, middle)
        lay_crossing(state, 1, x + HALF_CROSSING * math.cos(heading), y + HALF_CROSSING * math.sin(heading), heading)
        for arm in range(1, 4):
            length = uniform(state, SIDE_ROADS[0], SIDE_ROADS[1])
            if arm == TURNS[last_kind]:
                length = rest - first + MARGIN_END
            lay_road(params, state, 3 + arm, 1, arm, length)
    choose_route(state, left, kind, last_kind)


@kernel
def choose_route(state, left, kind, last_kind):
    """The segments from arm 0 through all crossings, and where on them the route starts and ends."""
    for leg in range(5):
        state.route[leg], state.route_starts[leg] = -1, 0.0
    state.route[0] = 2 + left
    state.route[1] = LANES + kind
    state.route[2] = lane_after(state, LANES + kind)
    state.num_legs = 3
    if state.num_crossings == 2:
        state.route[3] = LANES + WAYS + last_kind
        state.route[4] = lane_after(state, LANES + WAYS + last_kind)
        state.num_legs = 5
    for leg in range(1, state.num_legs):
        state.route_starts[leg] = state.route_starts[leg - 1] + state.segments[state.route[leg - 1], LENGTH]
    last = state.num_legs - 1
    state.route_start = MARGIN_START
    state.route_end = state.route_starts[last] + state.segments[state.route[last], LENGTH] - MARGIN_END


@kernel
def lane_after(state, way):
    """The lane to which a way through a crossing leads."""
    crossing, arm, kind = (way - LANES) // WAYS, (way - LANES) % WAYS // 4, way % 4
    return lane_from(state, crossing, (arm + TURNS[kind]) % 4, kind // 2)


@kernel
def lane_from(state, crossing, arm, left):
    """The lane that leaves a crossing by an arm."""
    if crossing == 0:
        return 4 * arm + left
    if arm == 0:
        return 4 * state.shared + 2 + left
    return 4 * (3 + arm) + left


@kernel
def ways_after(state, lane):
    """The first of the two ways from the end of a lane, -1 if it leads out of the world."""
    road, inwards, left = lane // 4, lane % 4 // 2, lane % 2
    if road >= 4:
        return LANES + WAYS + 4 * (road - 3) + 2 * left if inwards == 1 else -1
    if inwards == 1:
        return LANES + 4 * road + 2 * left
    return LANES + WAYS + 2 * left if road == state.shared and road > 0 else -1


@kernel
def on_crossing(state, crossing, x, y):
    """Whether a point lies on a crossing: in its square, but not in one of the rounded corners."""
    dx, dy = x - state.crossings[crossing, 0], y - state.crossings[crossing, 1]
    cos, sin = state.crossings[crossing, 2], state.crossings[crossing, 3]
    u, w = HALF_CROSSING - abs(dx * cos + dy * sin), HALF_CROSSING - abs(dy * cos - dx * sin)
    return u >= 0.0 and w >= 0.0 and u * u + w * w >= HALF_ROAD * HALF_ROAD


@kernel
def surface(state, x, y):
    """Where a point lies, and how far to the left of the road's centre line: a road, ON_CROSSING + crossing, or OFF_ROAD."""
    for crossing in range(state.num_crossings):
        if on_crossing(state, crossing, x, y):
            return ON_CROSSING + crossing, 0.0
    for road in range(state.num_roads):
        s, side = project(state, CENTRES + road, x, y)
        if 0.0 <= s <= state.segments[CENTRES + road, LENGTH] and abs(side) <= HALF_ROAD:
            return road, side
    return OFF_ROAD, 0.0


def conflicts():
    """What the 16 ways of a crossing have to do with each other.

    Returns bits, int64 (16,): for each way those whose vehicles it would touch; those from the same lane don't count, where one
    vehicle follows the other. And clear, float64 (16, 16): metres on the second of two such ways, from which on its vehicles
    are past the first one.
    """
    lines, places = [], []
    for arm in range(4):
        for kind in range(4):
            s, k = np.linspace(0.0, WAY_LENGTHS[kind], 60), CURVATURES[kind]
            u, w = (np.sin(k * s) / k, (1.0 - np.cos(k * s)) / k) if k else (s, 0.0 * s)
            line = (u - HALF_CROSSING) + 1j * (w - OFFSETS[kind // 2])
            lines.append(line * 1j**arm)
            places.append(s)
    bits, clear = np.zeros(WAYS, np.int64), np.zeros((WAYS, WAYS))
    for i in range(WAYS):
        for j in range(WAYS):
            near = (abs(lines[i] - lines[j][:, None]) < LANE - 0.5).any(1)
            if near.any() and i // 2 != j // 2:
                bits[i] |= 1 << j
                clear[i, j] = math.inf if near[-1] else places[j][near].max() + PAST
    return bits, clear
