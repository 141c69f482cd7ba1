"""How a driving episode looks from above: the raster for agents and the drawing for people."""

import math
from itertools import pairwise

import numpy as np

from explore_gym.envs.engine import kernel
from explore_gym.envs.navigation.roads import (
    CENTRES,
    COS,
    CURVATURE,
    HALF_CROSSING,
    HALF_ROAD,
    HEADING,
    LANE,
    LENGTH,
    SIN,
    X,
    Y,
    on_crossing,
    pose,
    project,
)
from explore_gym.envs.navigation.traffic import (
    ALL_RED,
    DT,
    EGO_LENGTH,
    EGO_WIDTH,
    HALF_LENGTHS,
    HALF_WIDTHS,
    NO_LIGHT,
    PEDESTRIAN,
    YELLOW_TIME,
    kind_of,
    light,
)

EXTENT, BEHIND = 64.0, 16.0  # m of the raster's sides, of what it shows behind the ego
REACH = math.hypot(EXTENT - BEHIND, 0.5 * EXTENT)
ROAD, ROUTE, MARKINGS, VEHICLES, PEDESTRIANS, LIGHTS = range(6)  # channels
MARKING = 0.15  # m, half the width of a marking
SHADE = 85  # of a light, times GREEN, YELLOW or RED

WIDTH, HEIGHT = 96.0, 64.0  # m that are drawn
GRASS, ASPHALT, PAINT, KERB = (196, 214, 178), (92, 96, 102), (226, 226, 220), (150, 152, 150)
WAY, EGO, CAR, WALKER, BLOCK = (96, 170, 236), (214, 66, 52), (48, 70, 130), (240, 140, 20), (240, 196, 40)
GLASS, INK, PANEL = (190, 210, 225), (30, 30, 30), (248, 248, 244)
COLOURS = {"green": (40, 180, 80), "yellow": (245, 200, 40), "red": (230, 40, 40)}


@kernel
def paint(params, state, raster):
    """What is within 48 m ahead, 16 m behind and 32 m to each side; row 0 is farthest ahead, column 0 leftmost."""
    size = raster.shape[0]
    for row in range(size):
        for column in range(size):
            for channel in range(6):
                raster[row, column, channel] = 0
    paint_roads(state, raster)
    for actor in range(len(state.present)):
        if state.present[actor] == 1:
            kind = kind_of(state, actor)
            channel = PEDESTRIANS if kind == PEDESTRIAN else VEHICLES
            x, y, cos, sin = state.actor_x[actor], state.actor_y[actor], state.actor_cos[actor], state.actor_sin[actor]
            paint_box(state, raster, channel, 255, x, y, cos, sin, HALF_LENGTHS[kind], HALF_WIDTHS[kind])
    for crossing in range(state.num_crossings):
        for arm in range(4):
            colour = light(params, state, crossing, arm)
            if colour != NO_LIGHT:
                x, y, cos, sin = stop_line(state, crossing, arm)
                paint_box(state, raster, LIGHTS, SHADE * colour, x, y, cos, sin, 0.5, LANE)


@kernel
def paint_roads(state, raster):
    size = raster.shape[0]
    metres = EXTENT / size
    for row in range(size):
        ahead = EXTENT - BEHIND - (row + 0.5) * metres
        for column in range(size):
            left = 0.5 * EXTENT - (column + 0.5) * metres
            x, y = state.x + ahead * state.cos - left * state.sin, state.y + ahead * state.sin + left * state.cos
            for crossing in range(state.num_crossings):
                if on_crossing(state, crossing, x, y):
                    raster[row, column, ROAD] = 255
    for road in range(state.num_roads):
        if is_near(state, CENTRES + road):
            for row in range(size):
                ahead = EXTENT - BEHIND - (row + 0.5) * metres
                for column in range(size):
                    left = 0.5 * EXTENT - (column + 0.5) * metres
                    x, y = state.x + ahead * state.cos - left * state.sin, state.y + ahead * state.sin + left * state.cos
                    s, side = project(state, CENTRES + road, x, y)
                    if 0.0 <= s <= state.segments[CENTRES + road, LENGTH] and abs(side) <= HALF_ROAD:
                        raster[row, column, ROAD] = 255
                        from_marking = abs(side) % LANE
                        if min(from_marking, LANE - from_marking) < max(MARKING, 0.5 * metres):
                            raster[row, column, MARKINGS] = 255
    for leg in range(state.leg, state.num_legs):
        segment = state.route[leg]
        steps = 2 * int(state.segments[segment, LENGTH])
        for i in range(steps + 1):
            x, y, _ = pose(state, segment, state.segments[segment, LENGTH] * i / steps)
            paint_point(state, raster, ROUTE, 255, x, y)


@kernel
def is_near(state, segment):
    """Whether some of a road may lie in the raster."""
    half = 0.5 * state.segments[segment, LENGTH]
    x, y, _ = pose(state, segment, half)
    reach = half + HALF_ROAD + REACH
    return (x - state.x) * (x - state.x) + (y - state.y) * (y - state.y) < reach * reach


@kernel
def stop_line(state, crossing, arm):
    """Middle and direction of the line at which those stop who come by an arm."""
    x, y, cos, sin = state.crossings[crossing]
    direction = math.atan2(sin, cos) + 0.5 * math.pi * arm
    cos, sin = math.cos(direction), math.sin(direction)
    return x - HALF_CROSSING * cos + LANE * sin, y - HALF_CROSSING * sin - LANE * cos, cos, sin


@kernel
def paint_box(state, raster, channel, value, x, y, cos, sin, length, width):
    """Fill a rectangle of these half sides, as a raster of points less than a pixel apart."""
    metres = EXTENT / raster.shape[0]
    along, across = int(4.0 * length / metres) + 1, int(4.0 * width / metres) + 1
    for i in range(along + 1):
        u = length * (2.0 * i / along - 1.0)
        for j in range(across + 1):
            w = width * (2.0 * j / across - 1.0)
            paint_point(state, raster, channel, value, x + u * cos - w * sin, y + u * sin + w * cos)


@kernel
def paint_point(state, raster, channel, value, x, y):
    size = raster.shape[0]
    dx, dy = x - state.x, y - state.y
    row = math.floor((EXTENT - BEHIND - dx * state.cos - dy * state.sin) * size / EXTENT)
    column = math.floor((0.5 * EXTENT - dy * state.cos + dx * state.sin) * size / EXTENT)
    if 0 <= row < size and 0 <= column < size:
        raster[row, column, channel] = value


def draw_world(canvas, state, cycle):
    """The surroundings of the ego, with the whole route in a corner and what counts in a line below."""
    canvas.size(WIDTH, HEIGHT + 5.0, GRASS)
    view = View(canvas, state.x, state.y)
    for margin, colour in ((0.5, KERB), (0.0, ASPHALT)):
        for road in range(state.num_roads):
            view.strip(state.segments[CENTRES + road], HALF_ROAD + margin, colour)
        for crossing in range(state.num_crossings):
            view.crossing(state.crossings[crossing], margin, colour)
    for leg in range(state.leg, state.num_legs):
        before = state.route_starts[leg]
        end = state.route_end - before if leg == state.num_legs - 1 else None
        view.line(line_of(state.segments[state.route[leg]], 0.0, max(0.0, state.farthest - before), end), WAY, 0.9, ".")
    for road in range(state.num_roads):
        segment = state.segments[CENTRES + road]
        for side in (-0.12, 0.12):
            view.line(line_of(segment, side), BLOCK, 0.12)
        for side in (-LANE, LANE):
            view.dashes(line_of(segment, side), PAINT)
    for crossing in range(state.num_crossings):
        view.lights(state, crossing, cycle)
    vehicles, pedestrians = len(state.lane) - 1, len(state.walk) - 1
    for actor in np.flatnonzero(state.present).tolist():
        kind = 0 if actor < vehicles else 1 if actor < vehicles + pedestrians else 2
        place = (state.actor_x[actor], state.actor_y[actor], state.actor_cos[actor], state.actor_sin[actor])
        if kind == PEDESTRIAN:
            view.walker(*place)
        else:
            view.car(*place, HALF_LENGTHS[kind], HALF_WIDTHS[kind], CAR if kind == 0 else BLOCK, "V" if kind == 0 else "X")
    view.car(state.x, state.y, state.cos, state.sin, EGO_LENGTH, EGO_WIDTH, EGO, "@")
    draw_map(canvas, state)
    hits = int(state.vehicles_hit + state.pedestrians_hit + state.obstacles_hit)
    canvas.rect(0, HEIGHT, WIDTH, 5.0, PANEL)
    caption = f"{state.elapsed * DT:.1f} s   {3.6 * state.speed:.0f} of {3.6 * state.speed_limit:.0f} km/h   "
    caption += f"route {state.completion:.0f} %   collisions {hits}   red lights {state.red_lights}"
    canvas.text(1.0, HEIGHT + 1.2, caption, INK, 2.4)


def draw_map(canvas, state):
    """All roads, the route and the ego, small, in the upper right corner."""
    roads = [line_of(state.segments[CENTRES + road], 0.0) for road in range(state.num_roads)]
    points = np.concatenate(roads)
    low, high = points.min(0), points.max(0)
    scale = min(20.0 / (high[0] - low[0] + 20.0), 20.0 / (high[1] - low[1] + 20.0))
    left, top = WIDTH - 22.0, 1.0

    def placed(line):
        x, y = line[:, 0] - low[0] + 10.0, high[1] - line[:, 1] + 10.0
        return np.stack([left + 1.0 + scale * x, top + 1.0 + scale * y], 1)

    canvas.rect(left, top, 21.0, 2.0 + scale * (high[1] - low[1] + 20.0), PANEL)
    ways = [line_of(state.segments[segment], 0.0) for segment in state.route[: state.num_legs]]
    for lines, colour, width in ((roads, KERB, 0.7), (ways, WAY, 0.5)):
        for line in map(placed, lines):
            for (x0, y0), (x1, y1) in pairwise(line.tolist()):
                canvas.line(x0, y0, x1, y1, colour, width)
    ((x, y),) = placed(np.array([[state.x, state.y]]))
    canvas.circle(x, y, 0.8, EGO)


def line_of(row, side, start=0.0, end=None):
    """Points (n, 2) some 2 m apart along a segment, `side` metres to its left, from `start` to `end` metres along it."""
    end = row[LENGTH] if end is None else end
    s, k = np.linspace(start, end, max(2, int((end - start) / 2.0))), row[CURVATURE]
    u, w = (np.sin(k * s) / k, (1.0 - np.cos(k * s)) / k) if k else (s, 0.0 * s)
    heading = row[HEADING] + k * s
    x = row[X] + u * row[COS] - w * row[SIN] - side * np.sin(heading)
    return np.stack([x, row[Y] + u * row[SIN] + w * row[COS] + side * np.cos(heading)], 1)


class View:
    """Draws world coordinates on a canvas around a point."""

    def __init__(self, canvas, x, y):
        self.canvas, self.middle = canvas, np.array([x, y])

    def placed(self, points):
        points = np.asarray(points, np.float64) - self.middle
        return np.stack([0.5 * WIDTH + points[:, 0], 0.5 * HEIGHT - points[:, 1]], 1)

    def near(self, points):
        return ((points > -20.0) & (points < (WIDTH + 20.0, HEIGHT + 20.0))).all(1).any()

    def strip(self, segment, half, colour):
        """A road of this half width."""
        points = self.placed(np.concatenate([line_of(segment, half), line_of(segment, -half)[::-1]]))
        self.canvas.polygon(points.tolist(), colour)

    def line(self, points, colour, width, char=None):
        points = self.placed(points)
        for start, end in pairwise(points.tolist()):
            if self.near(np.array([start, end])):
                self.canvas.line(*start, *end, colour, width, char)

    def dashes(self, points, colour):
        for i in range(0, len(points) - 1, 3):
            self.line(points[i : i + 2], colour, 0.2)

    def crossing(self, row, margin, colour):
        """A square without a quarter of a circle at each of its corners."""
        x, y, cos, sin = row
        angles = np.linspace(0.0, 0.5 * np.pi, 10)
        radius = HALF_ROAD - margin
        quarter = (HALF_CROSSING + 1j * HALF_CROSSING) - radius * np.exp(1j * angles)
        outline = np.concatenate([quarter[::-1] * 1j**turn for turn in (0, 1, 2, 3)])
        outline = complex(x, y) + outline * complex(cos, sin)
        self.canvas.polygon(self.placed(np.stack([outline.real, outline.imag], 1)).tolist(), colour)

    def lights(self, state, crossing, cycle):
        """The stop lines of a crossing, and what its lights show."""
        x, y, cos, sin = state.crossings[crossing]
        half = 0.5 * cycle
        for arm in range(4):
            time = (state.elapsed * DT + state.light_times[crossing] + half * (arm % 2)) % cycle
            colour = "green" if time < half - YELLOW_TIME - ALL_RED else "yellow" if time < half - ALL_RED else "red"
            turn = complex(cos, sin) * 1j**arm
            sides = (0.0, -HALF_ROAD, -HALF_ROAD - 1.5)  # of the line's ends and of the lamp
            places = [complex(x, y) + turn * complex(-HALF_CROSSING, side) for side in sides]
            points = [(place.real, place.imag) for place in places]
            lit = bool(state.lights[crossing])
            self.line(points[:2], COLOURS[colour] if lit else PAINT, 0.6, colour[0] if lit else None)
            if lit:
                ((px, py),) = self.placed(points[2:])
                self.canvas.circle(px, py, 1.3, INK)
                self.canvas.circle(px, py, 1.0, COLOURS[colour])

    def car(self, x, y, cos, sin, length, width, colour, char):
        turn = complex(cos, sin)
        body = [(length, width), (length, -width), (-length, -width), (-length, width)]
        front, back = 0.5 * length, 0.2 * length
        glass = [(front, 0.8 * width), (front, -0.8 * width), (back, -0.7 * width), (back, 0.7 * width)]
        for corners, paint, mark in ((body, colour, char), (glass, GLASS, None)):
            points = [complex(x, y) + turn * complex(*corner) for corner in corners]
            self.canvas.polygon(self.placed([(point.real, point.imag) for point in points]).tolist(), paint, mark)

    def walker(self, x, y, cos, sin):
        ((px, py),) = self.placed([(x, y)])
        self.canvas.circle(px, py, 0.75, INK)
        self.canvas.circle(px, py, 0.6, WALKER, "p")
