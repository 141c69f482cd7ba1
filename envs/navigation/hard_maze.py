"""HardMaze: drive a short-sighted robot out of dead ends to goals that are near as the crow flies and far by the way.

Observation: float32 (lasers + 2,): for each laser (at -45, 0 and 45 degrees) the distance to the wall over its range of 100, 1
             if there is none within it; then 1 for each bumper, left and right, that the last step pressed, otherwise 0.
Action:      float32 (2,): speeds of the two wheels, -4 to 4. The heading grows by (second - first) / 20 rad in a step, which
             is clockwise as y points down; the robot drives an arc of the mean speed. A step that would end with less than
             the robot's radius of 10 to a wall turns it but doesn't move it, and presses bumpers.
Reward:      with the last step 1 - distance / radius of the goal whose area the robot is in, otherwise 0. reward="reach": 1 on
             entering an area.
Terminates:  after steps (2000); with reward="reach" on entering an area.  Truncates: with reward="reach" after steps.
Info:        outcome, the robot's position over 600, 0 to 1 each; cell, its row * 50 + column among 50x50; reward_area, the goal
             whose area it is in, otherwise -1; reached, whether it has been in one; coverage, share of the 50x50 cells visited.
Maze:        600x600, start (60, 450) heading right and down, goals (60, 60) and (100, 200) with radius 50. A bumper is the
             quarter of the rim from the front to its side. maze="twin": from (298.5, 530) heading up, two ways to (298.5, 100),
             each the other's mirror image.
Source:      Lehman and Stanley, 2011, Abandoning objectives: evolution through the search for novelty alone, as drawn for
             libfastsim, with the goals and the reward of Paolo, Coninx, Doncieux and Laflaquiere, 2021, Sparse reward
             exploration via novelty search and emitters, arXiv:2102.03140.

Nothing is random. The observation tells little about where the robot is: what counts is a behaviour over 2000 steps, which is
why policies are searched as a whole here.
"""

import itertools
import math

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer
from explore_gym.envs.engine import KernelEnv, kernel, state_dtype, vectorize
from explore_gym.envs.navigation.raster import BODY, background, copies, disc

SIZE = 600.0
LOW, HIGH = 7.5, 589.5  # the border's inner sides
RADIUS = 10.0  # of the robot; its wheels are twice as far apart
RANGE = 100.0  # of lasers
SPEED = 4.0  # per step
CELLS = 50  # along a side, for coverage
TRAIL = 200  # points kept of the way, for drawings
REWARDS = ("terminal", "reach")
# x, y of both ends of a wall's axis and half its thickness, fitted to the 200x200 pixels of libfastsim's map, three units each
HARD = (
    (10.5, 133.5, 161.5, 144.75, 9.25),
    (167.75, 146.5, 389.75, 79.5, 8.25),
    (174.0, 154.5, 174.0, 451.25, 7.5),
    (180.5, 308.0, 456.25, 462.0, 6.75),
    (262.75, 259.0, 599.75, 435.0, 6.75),
    (10.5, 223.75, 102.0, 341.5, 8.0),
    (221.75, 588.5, 318.0, 476.75, 7.25),
)
HALF_OF_TWIN = (
    (0.0, 430.0, 215.0, 430.0, 7.5),
    (80.0, 290.0, 180.0, 290.0, 7.5),
    (0.0, 170.0, 100.0, 130.0, 7.5),
    (180.0, 180.0, 180.0, 360.0, 7.5),
    (180.0, 180.0, 300.0, 180.0, 7.5),
)
TWIN = HALF_OF_TWIN + tuple((LOW + HIGH - x0, y0, LOW + HIGH - x1, y1, half) for x0, y0, x1, y1, half in HALF_OF_TWIN)
MAZES = {  # walls, start (x, y, heading in degrees), goals (x, y, radius)
    "hard": (HARD, (60.0, 450.0, 45.0), ((60.0, 60.0, 50.0), (100.0, 200.0, 50.0))),
    "twin": (TWIN, (298.5, 530.0, -90.0), ((298.5, 100.0, 50.0),)),
}
INK, GROUND, STONE, GREEN = (30, 30, 30), (250, 250, 248), (70, 70, 78), (84, 184, 122)
WAY, RAY, ROBOT, PRESSED = (120, 150, 220), (240, 160, 60), (44, 38, 92), (214, 66, 52)


@kernel
def reset(params, state):
    state.x, state.y, state.theta = params.start[0], params.start[1], params.start[2]
    state.left, state.right = 0, 0
    state.reached, state.seen = 0, 0
    for cell in range(len(state.visited)):
        state.visited[cell] = 0
    for point in range(TRAIL):
        state.trail[point, 0], state.trail[point, 1] = 0.0, 0.0
    visit(params, state)


@kernel
def step(params, state, action):
    drive(params, state, np.float64(action[0]), np.float64(action[1]))
    visit(params, state)
    if params.reach:
        entered = state.area >= 0
        return (1.0 if entered else 0.0), entered
    if state.t < params.steps or state.area < 0:
        return 0.0, state.t >= params.steps
    goal = params.goals[state.area]
    return 1.0 - math.hypot(state.x - goal[0], state.y - goal[1]) / goal[2], True


@kernel
def drive(params, state, first, second):
    """Follow the arc that the wheels describe in a step, unless it ends too near a wall."""
    half_turn = (second - first) / (4.0 * RADIUS)
    chord = 0.5 * (first + second)
    if abs(half_turn) > 1e-9:
        chord *= math.sin(half_turn) / half_turn
    course, turned = state.theta + half_turn, state.theta + 2.0 * half_turn
    x, y = state.x + chord * math.cos(course), state.y + chord * math.sin(course)
    state.theta = turned - 2.0 * math.pi * math.floor((turned + math.pi) / (2.0 * math.pi))
    state.left, state.right = 0, 0
    if touches(params.walls, x, y):
        press(params.walls, state, x, y)
    else:
        state.x, state.y = x, y


@kernel
def touches(walls, x, y):
    """Whether a robot there is less than its radius away from a wall."""
    if min(x - LOW, HIGH - x, y - LOW, HIGH - y) < RADIUS:
        return True
    for i in range(len(walls)):
        dx, dy = to_axis(walls[i], x, y)
        reach = RADIUS + walls[i, 5]
        if dx * dx + dy * dy < reach * reach:
            return True
    return False


@kernel
def to_axis(wall, x, y):
    """The way from a point to the nearest one on a wall's axis, along x and y."""
    along = min(max((x - wall[0]) * wall[2] + (y - wall[1]) * wall[3], 0.0), wall[4])
    return wall[0] + along * wall[2] - x, wall[1] + along * wall[3] - y


@kernel
def press(walls, state, x, y):
    """Press the bumpers whose quarters of the disc at (x, y) hold some of a wall.

    The nearest point that a convex wall has in a quarter is its nearest point of all, or lies on one of the quarter's sides.
    """
    c, s = math.cos(state.theta), math.sin(state.theta)
    ahead = cast(walls, x, y, c, s, RADIUS) < RADIUS
    left = ahead or cast(walls, x, y, s, -c, RADIUS) < RADIUS
    right = ahead or cast(walls, x, y, -s, c, RADIUS) < RADIUS
    for i in range(len(walls) + 4):
        if i < len(walls):
            dx, dy = to_axis(walls[i], x, y)
            near = math.hypot(dx, dy) - walls[i, 5] < RADIUS
        elif i < len(walls) + 2:
            dx, dy = (LOW - x, 0.0) if i == len(walls) else (HIGH - x, 0.0)
            near = abs(dx) < RADIUS
        else:
            dx, dy = (0.0, LOW - y) if i == len(walls) + 2 else (0.0, HIGH - y)
            near = abs(dy) < RADIUS
        aside = c * dy - s * dx
        if near and dx * c + dy * s >= 0.0:
            left = left or aside <= 0.0
            right = right or aside >= 0.0
    state.left, state.right = (1 if left else 0), (1 if right else 0)


@kernel
def cast(walls, x, y, c, s, reach):
    """The distance from a point along the direction (c, s) to a wall, at most reach; 0 inside of a wall."""
    best = reach
    if c != 0.0:
        best = min(best, max(((HIGH if c > 0.0 else LOW) - x) / c, 0.0))
    if s != 0.0:
        best = min(best, max(((HIGH if s > 0.0 else LOW) - y) / s, 0.0))
    for i in range(len(walls)):
        best = min(best, meet(walls[i], x, y, c, s, best))
    return best


@kernel
def meet(wall, x, y, c, s, reach):
    """The distance from a point along (c, s) to all that is within a wall's half thickness of its axis, reach if beyond."""
    along = (x - wall[0]) * wall[2] + (y - wall[1]) * wall[3]
    aside = (y - wall[1]) * wall[2] - (x - wall[0]) * wall[3]
    length, half = wall[4], wall[5]
    beyond = along - min(max(along, 0.0), length)
    gap = beyond * beyond + aside * aside
    if gap > (reach + half) * (reach + half):
        return reach
    if gap <= half * half:
        return 0.0
    ahead, across = c * wall[2] + s * wall[3], s * wall[2] - c * wall[3]
    if abs(aside) > half:
        if aside * across >= 0.0:
            return reach
        distance = (abs(aside) - half) / abs(across)
        at = along + distance * ahead
        if 0.0 <= at <= length:
            return min(distance, reach)
    else:
        at = along
    from_end = along - (0.0 if at < 0.0 else length)  # the ray can only meet the round end on its side
    toward = from_end * ahead + aside * across
    root = toward * toward - (from_end * from_end + aside * aside - half * half)
    return min(-toward - math.sqrt(root), reach) if toward < 0.0 and root >= 0.0 else reach


@kernel
def visit(params, state):
    """Note the cell, the goal's area and the point of the way where the robot is."""
    row, column = int(state.y / SIZE * CELLS), int(state.x / SIZE * CELLS)
    state.cell = min(max(row, 0), CELLS - 1) * CELLS + min(max(column, 0), CELLS - 1)
    if state.visited[state.cell] == 0:
        state.visited[state.cell] = 1
        state.seen += 1
    state.area = -1
    for i in range(len(params.goals)):
        dx, dy = state.x - params.goals[i, 0], state.y - params.goals[i, 1]
        if state.area < 0 and dx * dx + dy * dy <= params.goals[i, 2] * params.goals[i, 2]:
            state.area = i
            state.reached = 1
    if state.t % params.stride == 0:
        point = min(state.t // params.stride, TRAIL - 1)
        state.trail[point, 0], state.trail[point, 1] = state.x, state.y


@kernel
def observe(params, state, obs):
    c, s = math.cos(state.theta), math.sin(state.theta)
    lasers = len(params.cosines)
    for i in range(lasers):
        cosine, sine = params.cosines[i], params.sines[i]
        distance = cast(params.walls, state.x, state.y, c * cosine - s * sine, s * cosine + c * sine, RANGE)
        obs[i] = distance / RANGE
    obs[lasers], obs[lasers + 1] = state.left, state.right


@kernel
def inform(params, state, info):
    info.outcome[0], info.outcome[1] = state.x / SIZE, state.y / SIZE
    info.cell = state.cell
    info.reward_area = state.area
    info.reached = state.reached == 1
    info.coverage = state.seen / len(state.visited)


class HardMaze(KernelEnv):
    """A disc with two wheels, lasers and bumpers among walls.

    Args:
        maze: "hard", or "twin" with two equivalent ways to its goal.
        goals: (x, y, radius) of each goal, or None for the maze's own; where areas overlap, the first one counts.
        lasers: their angles to the heading in degrees, clockwise, 1 to 64 of them.
        steps: actions of an episode, 1 to 100,000.
        reward: "terminal" or "reach".
    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    untracked = ("visited", "seen", "reached", "trail")

    def __init__(
        self,
        maze="hard",
        goals=None,
        lasers=(-45, 0, 45),
        steps=2000,
        reward="terminal",
        render_mode=None,
        max_episode_steps=None,
    ):
        for name, value, known in (("maze", maze, tuple(MAZES)), ("reward", reward, REWARDS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        check_integer("steps", steps, 1, 100_000)
        walls, (x, y, heading), own_goals = MAZES[maze]
        self.goals = check_goals(own_goals if goals is None else goals)
        angles = np.asarray(lasers, np.float64)
        if angles.ndim != 1 or not 1 <= len(angles) <= 64 or not np.isfinite(angles).all():
            raise ValueError(f"lasers must be 1 to 64 angles in degrees, got {lasers!r}")
        self.walls, self.angles, self.steps = beams(walls), np.radians(angles), steps
        self.stride = -(-steps // (TRAIL - 1))
        super().__init__(
            state=state_dtype(
                x=np.float64,
                y=np.float64,
                theta=np.float64,  # heading in rad, -pi to pi, clockwise
                left=np.uint8,  # bumpers
                right=np.uint8,
                area=np.int32,
                reached=np.uint8,
                cell=np.int32,
                seen=np.int32,  # cells visited
                visited=(np.uint8, (CELLS**2,)),
                trail=(np.float32, (TRAIL, 2)),
            ),
            params=dict(
                walls=self.walls,
                goals=self.goals,
                start=np.array([x, y, math.radians(heading)]),
                cosines=np.cos(self.angles),
                sines=np.sin(self.angles),
                steps=steps,
                stride=self.stride,
                reach=reward == "reach",
            ),
            observation_space=spaces.Box(0.0, 1.0, (len(angles) + 2,), np.float32),
            action_space=spaces.Box(-SPEED, SPEED, (2,), np.float32),
            info=dict(outcome=(float, (2,)), cell=int, reward_area=int, reached=bool, coverage=float),
            max_steps=steps if reward == "reach" else None,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def raster(self, states=None, size=64, goals=True, distractors=0, seed=0):
        """Small pictures of states, painted by a kernel: white ground, black walls, red goals, the robot blue.

        Args:
            states: records as `get_state()` gives them, of this environment or of a batch of it (`envs.env.raster(
                envs.get_state())`); default: the state of this environment.
            size: pixels along a side.
            goals: whether they are drawn.
            distractors: squares in random places and colours, other ones in each picture; seed draws them.
        Returns:
            `uint8 (*states.shape, size, size, 3)`.
        """
        states = self.get_state() if states is None else states
        scale = size / SIZE
        ground = background(size, self.is_wall, self.goals if goals else (), scale)
        frames = copies(ground, states.size, distractors, seed)
        x, y = (np.ascontiguousarray(states[name]).reshape(-1) * scale for name in ("x", "y"))
        paint(frames, x, y, max(RADIUS * scale, 1.5), np.array(BODY, np.uint8))
        return frames.reshape(*states.shape, size, size, 3)

    def is_wall(self, x, y):
        """Where the points (x, y), arrays in shares of the side, are in a wall."""
        x, y = x * SIZE, y * SIZE
        inside = np.minimum(np.minimum(x - LOW, HIGH - x), np.minimum(y - LOW, HIGH - y)) <= 0.0
        for x0, y0, ux, uy, length, half in self.walls:
            along = np.clip((x - x0) * ux + (y - y0) * uy, 0.0, length)
            inside |= np.hypot(x0 + along * ux - x, y0 + along * uy - y) <= half
        return inside

    def draw(self, canvas, state):
        """Walls, goals, the way so far, the robot with its heading, what its lasers see and the bumpers it presses."""
        unit = 30.0  # of the maze in one of the canvas
        canvas.size(SIZE / unit, SIZE / unit + 1.5, GROUND)
        for *centre, radius in (self.goals / unit).tolist():
            canvas.circle(*centre, radius, (*GREEN, 110))
            canvas.circle(*centre, 0.15, GREEN, "G")
        x, y = float(state.x) / unit, float(state.y) / unit
        way = [*(state.trail[: int(state.t) // self.stride + 1] / np.float64(unit)).tolist(), (x, y)]
        for before, after in itertools.pairwise(way):
            canvas.line(*before, *after, WAY, 0.12)
        for side in ((0, 0, SIZE, LOW), (0, HIGH, SIZE, SIZE - HIGH), (0, 0, LOW, SIZE), (HIGH, 0, SIZE - HIGH, SIZE)):
            canvas.rect(*(value / unit for value in side), STONE, "#")
        for a, b, ux, uy, length, half in (self.walls / [unit, unit, 1.0, 1.0, unit, unit]).tolist():
            tip, across = (a + length * ux, b + length * uy), (-uy * half, ux * half)
            canvas.line(a, b, *tip, STONE, 0.05, "#")
            sides = zip((1, 1, -1, -1), ((a, b), tip, tip, (a, b)))
            canvas.polygon([(end[0] + k * across[0], end[1] + k * across[1]) for k, end in sides], STONE)
            for end in ((a, b), tip):
                canvas.circle(*end, half, STONE)
        for angle in self.angles + state.theta:
            c, s = math.cos(angle), math.sin(angle)
            distance = cast(self.walls, float(state.x), float(state.y), c, s, RANGE)
            hit = x + distance * c / unit, y + distance * s / unit
            canvas.line(x, y, *hit, RAY, 0.06)
            if distance < RANGE:
                canvas.circle(*hit, 0.12, RAY)
        rim = RADIUS / unit
        canvas.circle(x, y, rim, ROBOT, "@")
        canvas.line(x, y, x + rim * math.cos(state.theta), y + rim * math.sin(state.theta), GROUND, 0.1)
        for pressed, side in ((state.left, -1), (state.right, 1)):
            angle = state.theta + side * math.pi / 4.0
            if pressed:
                canvas.circle(x + rim * math.cos(angle), y + rim * math.sin(angle), 0.15, PRESSED)
        place = "outside of all goals" if state.area < 0 else f"in goal {state.area}"
        canvas.text(0.3, SIZE / unit + 0.4, f"step {state.t} of {self.steps}   {place}", INK, 0.7)


@kernel
def paint(frames, x, y, radius, color):
    for n in range(len(frames)):
        disc(frames[n], x[n], y[n], radius, color)


def beams(walls):
    """Walls as kernels want them, float64 (walls, 6): an end of the axis, its direction, its length, half the thickness."""
    ends = np.array(walls)
    along = ends[:, 2:4] - ends[:, :2]
    length = np.hypot(*along.T)[:, None]
    return np.concatenate([ends[:, :2], along / length, length, ends[:, 4:]], 1)


def check_goals(goals):
    """Goals as float64 (n, 3).

    Raises:
        ValueError: they aren't 1 to 64 triples of a place in the maze and a positive radius.
    """
    array = np.asarray(goals, np.float64)
    if not (array.ndim == 2 and array.shape[1] == 3 and 1 <= len(array) <= 64 and np.isfinite(array).all()):
        raise ValueError(f"goals must be 1 to 64 triples (x, y, radius), got {goals!r}")
    if array[:, :2].min() < LOW or array[:, :2].max() > HIGH or array[:, 2].min() <= 0.0:
        raise ValueError(f"goals must be at x and y in [{LOW}, {HIGH}] with a positive radius, got {goals!r}")
    return array


HardMazeVector = vectorize(HardMaze)
