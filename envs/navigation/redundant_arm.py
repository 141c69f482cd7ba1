"""RedundantArm: bring the tip of an arm with twenty joints to small areas, by torques, without touching anything.

Observation: float32 (20,): angle of each joint to the link before it, over pi.
Action:      float32 (20,): torque on each joint, -1 to 1.
Reward:      with the last step 1 - distance / radius of the goal whose area the tip is in, otherwise 0.
Terminates:  after steps (100), or when a move is illegal, which then isn't made. Truncates: never.
Info:        outcome, the tip's position x and y, 0 to 1 each; cell, its row * 50 + column among 50x50; reward_area, the goal
             whose area it is in, otherwise -1; reached, whether it has been in one; coverage, share of the 50x50 cells that
             the tip has visited; stopped, whether a move was illegal.
Motion:      a step is two moves of 0.01 s. In a move, speeds grow by half of the torque times 0.01 and angles by the speed
             times 0.01. It is illegal if then a joint is outside of the unit square or in one of four bars of 0.2 x 0.02 that
             reach inwards from the middle of each side, if two joints are nearer than 0.95 links in x and y together, or if
             the last joint is faster than 1 rad/s (half of the tip's way in the move is added to its speed).
Arm:         20 links of 0.05 from (0.5, 0.5); the angles run from 0.2 pi to 0.05 pi at first, a spiral. Goals (0.25, 0.25),
             (0.85, 0.85) and (0.25, 0.9), with radius 0.05. y points down in pictures.
Source:      the arm of Paolo, Coninx, Doncieux and Laflaquiere, 2021, Sparse reward exploration via novelty search and
             emitters, arXiv:2102.03140, whose released code names Pontus Loviken's MCGB as its origin.

Nothing is random. Very different torques bring the tip to the same place, and many stop the arm early, when it runs into itself
or a bar: outcomes are hard to cover from the space of policies.
"""

import itertools
import math

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.engine import KernelEnv, kernel, state_dtype, vectorize
from explore_gym.envs.navigation.raster import WALL, background, copies, line

JOINTS = 20
LINK = 1.0 / JOINTS
ROOT = 0.5  # x and y
START = np.linspace(4.0 * math.pi / JOINTS, math.pi / JOINTS, JOINTS)  # rad
MOVES = 2  # per step
DT = 0.01  # s, of a move
TOP_SPEED = 1.0  # rad/s, of the last joint
NEAREST = 0.95 * LINK  # in x and y together, of two joints
BARS = np.array([(0.49, 0.0, 0.51, 0.2), (0.49, 0.8, 0.51, 1.0), (0.0, 0.49, 0.2, 0.51), (0.8, 0.49, 1.0, 0.51)])
GOALS = ((0.25, 0.25), (0.85, 0.85), (0.25, 0.9))
CELLS = 50  # along a side, for coverage
TRAIL = 100  # points kept of the tip's way, for drawings
INK, GROUND, STONE, GREEN = (30, 30, 30), (250, 250, 248), (70, 70, 78), (84, 184, 122)
WAY, LIMB, TIP, STUCK = (120, 150, 220), (44, 38, 92), (240, 160, 60), (214, 66, 52)


@kernel
def reset(params, state):
    for joint in range(JOINTS):
        state.angles[joint], state.tried_angles[joint], state.speeds[joint] = params.start[joint], params.start[joint], 0.0
    lay(state.angles, state.x, state.y)
    lay(state.angles, state.tried_x, state.tried_y)
    state.stopped, state.reached, state.seen = 0, 0, 0
    for cell in range(len(state.visited)):
        state.visited[cell] = 0
    for point in range(TRAIL):
        state.trail[point, 0], state.trail[point, 1] = 0.0, 0.0
    visit(params, state)


@kernel
def step(params, state, action):
    for _ in range(MOVES):
        if state.stopped == 0:
            move(params, state, action)
    visit(params, state)
    over = state.stopped == 1 or state.t >= params.steps
    if not over or state.area < 0:
        return 0.0, over
    goal = params.goals[state.area]
    return 1.0 - math.hypot(state.x[JOINTS] - goal[0], state.y[JOINTS] - goal[1]) / goal[2], True


@kernel
def lay(angles, x, y):
    """The places x and y (21,) of the joints and the tip of an arm with these angles (20,)."""
    x[0], y[0], direction = ROOT, ROOT, 0.5 * math.pi
    for joint in range(JOINTS):
        direction += angles[joint]
        x[joint + 1] = x[joint] + LINK * math.cos(direction)
        y[joint + 1] = y[joint] + LINK * math.sin(direction)


@kernel
def move(params, state, torques):
    """Make a move of DT, or stop if it is illegal."""
    for joint in range(JOINTS):
        speed = state.speeds[joint] + 0.5 * DT * np.float64(torques[joint])
        state.tried_angles[joint] = state.angles[joint] + DT * speed
    lay(state.tried_angles, state.tried_x, state.tried_y)
    if too_fast(state) or touches(params.bars, state.tried_x, state.tried_y) or crosses(state.tried_x, state.tried_y):
        state.stopped = 1
        return
    for joint in range(JOINTS):
        state.speeds[joint] += 0.5 * DT * np.float64(torques[joint])
        state.angles[joint] = state.tried_angles[joint]
        state.x[joint + 1], state.y[joint + 1] = state.tried_x[joint + 1], state.tried_y[joint + 1]


@kernel
def too_fast(state):
    way = math.hypot(state.tried_x[JOINTS] - state.x[JOINTS], state.tried_y[JOINTS] - state.y[JOINTS])
    return way / MOVES + state.speeds[JOINTS - 1] > TOP_SPEED


@kernel
def touches(bars, x, y):
    """Whether a joint is in a bar or outside of the square."""
    count = 0  # rather than to leave at the first one, which is slower
    for i in range(JOINTS + 1):
        count += 1 if (x[i] < 0.0) | (x[i] >= 1.0) | (y[i] < 0.0) | (y[i] >= 1.0) else 0
    for bar in range(len(bars)):
        left, top, right, bottom = bars[bar, 0], bars[bar, 1], bars[bar, 2], bars[bar, 3]
        for i in range(JOINTS + 1):
            count += 1 if (left < x[i]) & (x[i] < right) & (top < y[i]) & (y[i] < bottom) else 0
    return count > 0


@kernel
def crosses(x, y):
    """Whether two joints are nearer to each other than neighbours ever are, which comes before links cross."""
    count = 0
    for i in range(JOINTS + 1):
        for j in range(i + 2, JOINTS + 1):
            count += 1 if abs(x[i] - x[j]) + abs(y[i] - y[j]) < NEAREST else 0
    return count > 0


@kernel
def visit(params, state):
    """Note the cell, the goal's area and the point of the way where the tip is."""
    x, y = state.x[JOINTS], state.y[JOINTS]
    state.cell = min(int(y * CELLS), CELLS - 1) * CELLS + min(int(x * CELLS), CELLS - 1)
    if state.visited[state.cell] == 0:
        state.visited[state.cell] = 1
        state.seen += 1
    state.area = -1
    for i in range(len(params.goals)):
        if state.area < 0 and math.hypot(x - params.goals[i, 0], y - params.goals[i, 1]) <= params.goals[i, 2]:
            state.area = i
            state.reached = 1
    if state.t % params.stride == 0:
        point = min(state.t // params.stride, TRAIL - 1)
        state.trail[point, 0], state.trail[point, 1] = x, y


@kernel
def observe(params, state, obs):
    for joint in range(JOINTS):
        obs[joint] = state.angles[joint] / math.pi


@kernel
def inform(params, state, info):
    info.outcome[0], info.outcome[1] = state.x[JOINTS], state.y[JOINTS]
    info.cell = state.cell
    info.reward_area = state.area
    info.reached = state.reached == 1
    info.coverage = state.seen / len(state.visited)
    info.stopped = state.stopped == 1


class RedundantArm(KernelEnv):
    """An arm with more joints than its task needs.

    Args:
        radius: of the goals' areas, up to 0.5.
        steps: the longest episode, 1 to 10,000.
    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    untracked = ("visited", "seen", "reached", "trail", "tried_angles", "tried_x", "tried_y")

    def __init__(self, radius=0.05, steps=100, render_mode=None, max_episode_steps=None):
        check_number("radius", radius, 1e-6, 0.5)
        check_integer("steps", steps, 1, 10_000)
        self.goals, self.steps, self.stride = np.array([(*goal, radius) for goal in GOALS]), steps, -(-steps // (TRAIL - 1))
        widest = START.max() + 0.25 * DT**2 * (MOVES * steps) * (MOVES * steps + 1)  # with full torque all the time
        super().__init__(
            state=state_dtype(
                angles=(np.float64, (JOINTS,)),
                speeds=(np.float64, (JOINTS,)),
                x=(np.float64, (JOINTS + 1,)),  # of the joints; the last one is the tip
                y=(np.float64, (JOINTS + 1,)),
                tried_angles=(np.float64, (JOINTS,)),  # of a move that may be illegal
                tried_x=(np.float64, (JOINTS + 1,)),
                tried_y=(np.float64, (JOINTS + 1,)),
                stopped=np.uint8,
                area=np.int32,
                reached=np.uint8,
                cell=np.int32,
                seen=np.int32,  # cells visited
                visited=(np.uint8, (CELLS**2,)),
                trail=(np.float32, (TRAIL, 2)),
            ),
            params=dict(start=START, bars=BARS, goals=self.goals, steps=steps, stride=self.stride),
            observation_space=spaces.Box(-widest / math.pi, widest / math.pi, (JOINTS,), np.float32),
            action_space=spaces.Box(-1.0, 1.0, (JOINTS,), np.float32),
            info=dict(outcome=(float, (2,)), cell=int, reward_area=int, reached=bool, coverage=float, stopped=bool),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def raster(self, states=None, size=64, goals=True, distractors=0, seed=0):
        """Small pictures of states, painted by a kernel: white ground, red goals, the bars and the arm black.

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
        ground = background(size, self.is_wall, self.goals if goals else (), size)
        frames = copies(ground, states.size, distractors, seed)
        x, y = (np.ascontiguousarray(states[name]).reshape(-1, JOINTS + 1) * size for name in ("x", "y"))
        paint(frames, x, y, np.array(WALL, np.uint8))
        return frames.reshape(*states.shape, size, size, 3)

    def is_wall(self, x, y):
        """Where the points (x, y), arrays, are in a bar."""
        return np.any([(left < x) & (x < right) & (top < y) & (y < bottom) for left, top, right, bottom in BARS], 0)

    def draw(self, canvas, state):
        """Bars, goals, the way of the tip, and the arm, red where it got stuck."""
        unit = 20.0
        canvas.size(unit, unit + 1.5, GROUND)
        for *centre, radius in (self.goals * unit).tolist():
            canvas.circle(*centre, radius, (*GREEN, 110))
            canvas.circle(*centre, 0.15, GREEN, "G")
        for left, top, right, bottom in (BARS * unit).tolist():
            canvas.rect(left, top, right - left, bottom - top, STONE, "#")
        joints = np.stack([state.x, state.y], 1) * unit
        way = [*(state.trail[: int(state.t) // self.stride + 1] * np.float64(unit)).tolist(), joints[-1].tolist()]
        for before, after in itertools.pairwise(way):
            canvas.line(*before, *after, WAY, 0.1)
        color = STUCK if state.stopped else LIMB
        for before, after in itertools.pairwise(joints.tolist()):
            canvas.line(*before, *after, color, 0.2, "o")
            canvas.circle(*before, 0.14, color)
        canvas.rect(unit / 2 - 0.25, unit / 2 - 0.25, 0.5, 0.5, color)
        canvas.circle(*joints[-1].tolist(), 0.28, TIP, "@")
        place = "outside of all goals" if state.area < 0 else f"in goal {state.area}"
        canvas.text(0.3, unit + 0.4, f"step {state.t} of {self.steps}   {'stopped   ' * int(state.stopped)}{place}", INK, 0.7)


@kernel
def paint(frames, x, y, color):
    for n in range(len(frames)):
        for joint in range(JOINTS):
            line(frames[n], x[n, joint], y[n, joint], x[n, joint + 1], y[n, joint + 1], color)


RedundantArmVector = vectorize(RedundantArm)
