"""TopoNav: find the way through open country with a narrow view, a faulty landmark detector and an odometer that drifts.

Observation: Dict. cone uint8 (4, 9, 15), 0 or 1: seen, obstacle, rough, goal; row 8 - a, column 7 + r is the cell a ahead of
             the agent and r to its right. detections float32 (6, 11), a row for each: confidence (0: none), cells ahead and
             to the right, and the type, one-hot. odometry float32 (2,), cells moved to the east and to the south since the
             start, as counted. heading Discrete(4), 0 east, 1 south, 2 west, 3 north. last MultiBinary(2), whether the last
             action moved the agent, and whether it collided. clock float32 (1,), share of the steps that are over. And, by
             scenario, goal float32 (2,), cells ahead and to the right to the goal, by odometry; or target Discrete(8), the
             type asked for, and found float32 (1,), the share of its landmarks that have been visited.
Action:      Discrete(4): 0 forward, 1 turn left, 2 turn right, 3 stay. Obstacles and the map's edge stop the agent; a move
             onto a rough cell fails with probability 1 - rough_success (0.4).
Reward:      1 at the goal; scenario="feature": 0.25 for each of the 4 landmarks of the type asked for, when the agent comes
             within one cell of it, diagonals included.
Terminates:  at the goal, or with the last of those landmarks.  Truncates: after max_steps (800).
Info:        what the agent must not see: cell (row * size + column), distance (moves to the goal, or to the nearest of those
             landmarks left), shortest_path (of the whole task, from the start), path_length (cells moved), spl (success *
             shortest_path / the larger of the two), success, found, visited (distinct cells), coverage (share of the free
             cells that have been in view), collisions, rough_failures, skids, dead_end_steps (spent in dead ends),
             detected (the landmark behind each detection, -1 a false one, -2 none), false_detections (so far), drift (cells
             by which the odometer is wrong), context.
View:        68 rays over a cone of 120 degrees go from the middle of the agent's cell through 8 cells; the first obstacle
             stops a ray and is seen. A ray through a corner is stopped by either of the two cells beside it.
Detector:    a landmark on a cell in view is missed with probability miss (0.1); its offset has normal errors of
             position_noise (0.5) cells. With probability false_positives (0.05) a step there is one that isn't, about a
             random cell in view. Confidences of true ones are uniform in [0.5, 1], of false ones in [0.2, 0.7]. Of more than 6
             the first 6 are told, in an order of the landmarks that an episode keeps, a false one last.
Drift:       with each cell that it moves the agent skids a cell to one side of the map, the same in all of the episode, with
             probability drift (0.01), if the cell there is free. Neither odometry nor last tell.
Layout:      64x64 cells: 3 to 6 clearings and the valleys between them, parted by ridges with passes of 2 to 4 cells, and 2
             dead ends of depth >= 20, as `valleys` draws them; obstacles cover 10 to 20 % of the map. A tenth is rough. 15
             to 30 landmarks of 8 types stand on free cells, where they are in nobody's way. The shortest path is >= 60
             moves long; neither start nor goal lies in a dead end. After late_step (200) steps rocks close up to 2 of the
             passes, but not where the agent stands, and never the only way to a place.
Scenarios:   "goal", "feature", and "terrain", which is "goal" with rough ground on 90 % of the cells of all paths to the
             goal that are at most 4 moves longer than the shortest one.
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed. The maps of split="train" and
             "test" are others: those with an even or an odd number of obstacles.
Source:      the world of Hossain et al., 2024, TopoNav, arXiv:2402.04061, as far as it could be recovered: sparse rewards,
             unknown outdoor maps, landmarks as nodes, the three scenarios. Sizes and probabilities are this suite's.
"""

import math

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.engine import KernelEnv, bernoulli, kernel, normal, randint, seed_stream, state_dtype, uniform, vectorize
from explore_gym.envs.navigation.journey import draw_journey
from explore_gym.envs.navigation.sight import VISITED, WORD, cast, look, sees
from explore_gym.envs.navigation.valleys import (
    BLOCKED,
    DEAD_END,
    GATE,
    GOAL,
    LANDMARK,
    MAX_SIZE,
    MAX_TILES,
    ROCK,
    ROUGH,
    block,
    cell_at,
    chain_length,
    draw_country,
    flood,
    most_walls,
    place_of,
    random_cell,
    role_of,
    roughen,
    shallowest,
    valley_fields,
    valley_params,
)

FORWARD, LEFT, RIGHT, STAY = range(4)
SCENARIOS = ("goal", "feature", "terrain")
SPLITS = ("train", "test")
DOWN, EAST = (0, 1, 0, -1), (1, 0, -1, 0)  # a step ahead by heading: rows and columns
SLOTS = 6  # detections that are told at a time, at most
PLACE_TRIES = 256  # random cells tried for the start or the goal
SLACK, DENSE = 4, 0.9  # of the rough ground of "terrain": moves, share of cells
MAX_TARGETS = 6
NOTHING, FALSE = -2, -1  # in info["detected"]


def topo_nav_state(size, margin, tiles, dead_ends, closings, landmarks, targets, words, max_steps):
    area = (size + 2 * margin) ** 2
    return state_dtype(
        **valley_fields(size, margin, tiles, dead_ends, closings),
        cell=np.int32,  # numbers of cells are those of `valleys`
        start=np.int32,
        heading=np.int32,
        odometry=(np.int32, (2,)),  # rows and columns since the start, as counted
        downhill=np.int32,  # direction of skids
        targets=(np.int16, (targets,)),  # cells: the goal, or the landmarks asked for
        target_type=np.int32,
        found=np.int32,  # a bit for each
        distances=(np.int16, (area,)),  # to the nearest target left
        from_start=(np.int16, (area,)),
        between=(np.int32, (targets, targets)),  # moves from target to target
        tours=(np.int32, (1 << targets, targets)),  # shortest walk from the start by targets visited and the last of them
        shortest_path=np.int32,
        closed=np.bool_,
        num_landmarks=np.int32,
        landmarks=(np.int16, (landmarks,)),  # cells
        places=(np.int16, (landmarks, 2)),  # their rows and columns
        types=(np.uint8, (landmarks,)),
        visible=(np.int64, (words,)),  # bits of the cells of the view
        opaque=(np.int64, (words,)),
        stale=np.bool_,
        num_detections=np.int32,
        detected=(np.int32, (SLOTS,)),
        detections=(np.float64, (SLOTS, 3)),  # confidence, cells ahead, to the right
        detected_types=(np.int32, (SLOTS,)),
        moved=np.bool_,
        collided=np.bool_,
        marks=(np.uint8, (area,)),
        free=np.int32,  # cells at the start
        seen=np.int32,
        visited=np.int32,
        path_length=np.int32,
        collisions=np.int32,
        rough_failures=np.int32,
        skids=np.int32,
        dead_end_steps=np.int32,
        false_detections=np.int32,
        context=np.int32,
        trail=(np.int16, (max_steps + 1,)),  # cells by time
    )


@kernel
def reset(params, state):
    state.context = randint(state, params.num_contexts) if params.num_contexts > 0 else -1
    word = state.rng
    if params.num_contexts > 0:
        seed_stream(state, params.layout_seed, 2 * np.int64(state.context) + params.odd)
    while not (draw_country(params, state) and draw_task(params, state)):
        pass
    if params.num_contexts > 0:
        state.rng = word
    state.odometry[0], state.odometry[1], state.closed, state.found = 0, 0, False, 0
    state.moved, state.collided = False, False
    state.seen, state.visited, state.path_length, state.collisions, state.rough_failures = 0, 0, 0, 0, 0
    state.skids, state.dead_end_steps, state.false_detections = 0, 0, 0
    for cell in range(state.marks.shape[0]):
        state.marks[cell] = 0
    for step in range(state.trail.shape[0]):
        state.trail[step] = -1
    arrive(params, state)
    look(params, state)
    detect(params, state)


@kernel
def draw_task(params, state):
    """Draw start, landmarks, targets and rough ground. Returns False if the map isn't fit for it."""
    state.free = params.size**2 - state.blocked
    start = place_start(params, state)
    if start < 0:
        return False
    state.start, state.cell, state.heading, state.downhill = start, start, randint(state, 4), randint(state, 4)
    state.queue[0] = start
    if flood(params, state, state.from_start, 0, 1) < state.free:
        return False
    if shallowest(params, state, state.from_start) < params.dead_end_depth:
        return False
    state.target_type = randint(state, params.num_types)
    if params.feature:
        place_landmarks(params, state)
        for target in range(state.targets.shape[0]):
            state.targets[target] = state.landmarks[target]
        state.shortest_path = shortest_tour(params, state)
    else:
        if not place_goal(params, state):
            return False
        place_landmarks(params, state)
        state.shortest_path = state.from_start[state.targets[0]]
    if state.shortest_path < params.goal_distance:
        return False
    state.found = 0
    measure(params, state)
    if params.terrain:
        roughen_path(params, state)
    roughen(params, state, params.rough)
    return True


@kernel
def place_start(params, state):
    """A random free cell of a clearing or valley, outside passes, -1 if none turns up."""
    for _ in range(PLACE_TRIES):
        cell = random_cell(params, state)
        if not state.ground[cell] & (BLOCKED | GATE) and 0 <= role_of(params, state, cell) < DEAD_END:
            return cell
    return -1


@kernel
def place_goal(params, state):
    """Put the goal on a random cell that is as far away as asked. Returns whether one turned up."""
    for _ in range(PLACE_TRIES):
        cell = place_start(params, state)
        if cell >= 0 and state.from_start[cell] >= params.goal_distance:
            state.ground[cell] |= GOAL
            state.targets[0] = cell
            return True
    return False


@kernel
def place_landmarks(params, state):
    """Put landmarks on random free cells outside passes. In "feature" the first are the targets, and alone of their type."""
    state.num_landmarks = params.few_landmarks + randint(state, params.many_landmarks - params.few_landmarks + 1)
    for landmark in range(state.landmarks.shape[0]):
        state.landmarks[landmark], state.types[landmark] = -1, 0
        state.places[landmark, 0], state.places[landmark, 1] = -1, -1
    for landmark in range(state.num_landmarks):
        cell = random_cell(params, state)
        while state.ground[cell] & (BLOCKED | GATE | GOAL | LANDMARK) or cell == state.start:
            cell = random_cell(params, state)
        state.ground[cell] |= LANDMARK
        state.landmarks[landmark] = cell
        state.places[landmark, 0], state.places[landmark, 1] = place_of(params, cell)
        if not params.feature:
            state.types[landmark] = randint(state, params.num_types)
        elif landmark < state.targets.shape[0]:
            state.types[landmark] = state.target_type
        else:
            state.types[landmark] = (state.target_type + 1 + randint(state, params.num_types - 1)) % params.num_types


@kernel
def shortest_tour(params, state):
    """Moves of the shortest walk from the start through all targets' cells (Held and Karp, 1962)."""
    count = state.targets.shape[0]
    full = (1 << count) - 1
    for subset in range(full + 1):
        for last in range(count):
            state.tours[subset, last] = 1 << 24
    for target in range(count):
        state.tours[1 << target, target] = state.from_start[state.targets[target]]
        state.queue[0] = state.targets[target]
        flood(params, state, state.distances, 0, 1)
        for other in range(count):
            state.between[target, other] = state.distances[state.targets[other]]
    for subset in range(1, full):
        for last in range(count):
            for target in range(count):
                if not subset >> target & 1:
                    moves = np.int64(state.tours[subset, last]) + np.int64(state.between[last, target])
                    state.tours[subset | 1 << target, target] = min(np.int64(state.tours[subset | 1 << target, target]), moves)
    shortest = 1 << 24
    for last in range(count):
        shortest = min(shortest, np.int64(state.tours[full, last]))
    return shortest


@kernel
def num_bits(word):
    count = 0
    while word:
        count += word & 1
        word >>= 1
    return count


@kernel
def measure(params, state):
    """Compute the distances to the nearest target that is left."""
    count = 0
    for target in range(state.targets.shape[0]):
        if not state.found >> target & 1:
            state.queue[count] = state.targets[target]
            count += 1
    flood(params, state, state.distances, 0, count)


@kernel
def roughen_path(params, state):
    """Rough ground on most cells of all paths that are hardly longer than the shortest."""
    for row in range(params.size):
        for col in range(params.size):
            cell = cell_at(params, row, col)
            detour = np.int64(state.from_start[cell]) + np.int64(state.distances[cell]) - np.int64(state.shortest_path)
            if not state.ground[cell] & BLOCKED and detour <= SLACK and bernoulli(state, DENSE):
                state.ground[cell] |= ROUGH


@kernel
def step(params, state, action):
    if state.t > params.late_step and not state.closed:
        close_passes(params, state)
    state.moved, state.collided = False, False
    if action == FORWARD:
        advance(params, state)
    elif action == LEFT:
        state.heading = (state.heading + 3) & 3
    elif action == RIGHT:
        state.heading = (state.heading + 1) & 3
    arrive(params, state)
    reached = visit_targets(params, state) if state.moved else 0
    if action != STAY or state.stale:
        look(params, state)
    detect(params, state)
    return reached / state.targets.shape[0], state.found == (1 << state.targets.shape[0]) - 1


@kernel
def close_passes(params, state):
    """The late obstacles."""
    for i in range(state.num_closing):
        if state.closing_cells[i] != state.cell:
            block(state, np.int64(state.closing_cells[i]), ROCK)
    state.closed, state.stale = True, True
    measure(params, state)


@kernel
def ahead(params, cell, direction):
    """The next cell to the east, south, west or north."""
    return np.int64(cell) + DOWN[direction] * params.stride + EAST[direction]


@kernel
def advance(params, state):
    cell = ahead(params, state.cell, state.heading)
    if state.ground[cell] & BLOCKED:
        state.collided = True
        state.collisions += 1
    elif state.ground[cell] & ROUGH and not bernoulli(state, params.rough_success):
        state.rough_failures += 1
    else:
        state.moved = True
        state.cell = cell
        state.odometry[0] += DOWN[state.heading]
        state.odometry[1] += EAST[state.heading]
        state.path_length += 1
        if params.drift > 0.0 and bernoulli(state, params.drift):
            skid(params, state)


@kernel
def skid(params, state):
    cell = ahead(params, state.cell, state.downhill)
    if not state.ground[cell] & BLOCKED:
        state.cell = cell
        state.skids += 1


@kernel
def arrive(params, state):
    """Count the cell that the agent is on."""
    if not state.marks[state.cell] & VISITED:
        state.marks[state.cell] |= VISITED
        state.visited += 1
    state.trail[state.t] = state.cell
    if role_of(params, state, state.cell) >= DEAD_END:
        state.dead_end_steps += 1


@kernel
def visit_targets(params, state):
    """Count the targets in reach. Returns how many of them are new."""
    row, col = place_of(params, state.cell)
    new = 0
    for target in range(state.targets.shape[0]):
        r, c = place_of(params, state.targets[target])
        if not state.found >> target & 1 and max(abs(r - row), abs(c - col)) <= params.reach:
            state.found |= 1 << target
            new += 1
    if new > 0 and state.found != (1 << state.targets.shape[0]) - 1:
        measure(params, state)
    return new


@kernel
def detect(params, state):
    """Draw the detections of this step."""
    state.num_detections = 0
    row, col = place_of(params, state.cell)
    down, east = DOWN[state.heading], EAST[state.heading]
    for landmark in range(state.num_landmarks):
        south, west = np.int64(state.places[landmark, 0]) - row, col - np.int64(state.places[landmark, 1])
        forward, right = south * down - west * east, south * east + west * down
        if sees(params, state, forward, right) and not bernoulli(state, params.miss):
            report(params, state, landmark, uniform(state, 0.5, 1.0), forward, right, np.int64(state.types[landmark]))
    if params.false_positives > 0.0 and bernoulli(state, params.false_positives):
        i = randint(state, params.offsets.shape[1])
        while not state.visible[i // WORD] >> i % WORD & 1:
            i = randint(state, params.offsets.shape[1])
        state.false_detections += 1
        confidence, kind = uniform(state, 0.2, 0.7), randint(state, params.num_types)
        report(params, state, FALSE, confidence, params.forward[i], params.right[i], kind)


@kernel
def report(params, state, landmark, confidence, forward, right, kind):
    """Write a detection, with errors in its place, if there is a slot left."""
    slot = state.num_detections
    if slot < SLOTS:
        state.detected[slot], state.detected_types[slot], state.detections[slot, 0] = landmark, kind, confidence
        state.detections[slot, 1] = forward + params.position_noise * normal(state)
        state.detections[slot, 2] = right + params.position_noise * normal(state)
        state.num_detections += 1


@kernel
def observe(params, state, obs):
    """What all scenarios show. Boxes are flat here."""
    if state.stale:
        look(params, state)
    plane = params.number.shape[0] * params.number.shape[1]
    for i in range(4 * plane):
        obs.cone[i] = 0
    cell, heading = np.int64(state.cell), np.int64(state.heading)
    for word in range(state.visible.shape[0]):
        i, left = WORD * word, np.int64(state.visible[word])
        while left:
            if left & 1:
                at, bits = params.pixels[i], np.int64(state.ground[cell + params.offsets[heading, i]])
                blocked = bits & BLOCKED
                obs.cone[at] = 1
                obs.cone[plane + at] = blocked
                obs.cone[2 * plane + at] = (bits & ROUGH) // ROUGH & ~blocked
                obs.cone[3 * plane + at] = (bits & GOAL) // GOAL
            left >>= 1
            i += 1
    width = 3 + params.num_types
    for i in range(SLOTS * width):
        obs.detections[i] = 0.0
    for slot in range(state.num_detections):
        for i in range(3):
            obs.detections[slot * width + i] = state.detections[slot, i]
        obs.detections[slot * width + 3 + state.detected_types[slot]] = 1.0
    obs.odometry[0], obs.odometry[1] = state.odometry[1], state.odometry[0]
    obs.heading = heading
    obs.last[0], obs.last[1] = state.moved, state.collided
    obs.clock[0] = state.t / params.max_steps


@kernel
def observe_goal(params, state, obs):
    observe(params, state, obs)
    row, col = place_of(params, state.targets[0])
    start_row, start_col = place_of(params, state.start)
    down, east = DOWN[state.heading], EAST[state.heading]
    south, west = row - start_row - state.odometry[0], start_col + state.odometry[1] - col
    obs.goal[0], obs.goal[1] = south * down - west * east, south * east + west * down


@kernel
def observe_target(params, state, obs):
    observe(params, state, obs)
    obs.target = state.target_type
    obs.found[0] = num_bits(np.int64(state.found)) / state.targets.shape[0]


@kernel
def inform(params, state, info):
    row, col = place_of(params, state.cell)
    start_row, start_col = place_of(params, state.start)
    info.cell = row * params.size + col
    info.distance = state.distances[state.cell]
    info.shortest_path, info.path_length = state.shortest_path, state.path_length
    info.found = num_bits(np.int64(state.found))
    info.success = state.found == (1 << state.targets.shape[0]) - 1
    info.spl = 0.0
    if info.success:
        info.spl = state.shortest_path / max(state.shortest_path, state.path_length)
    info.visited, info.coverage = state.visited, state.seen / state.free
    info.collisions, info.rough_failures, info.skids = state.collisions, state.rough_failures, state.skids
    info.dead_end_steps, info.false_detections = state.dead_end_steps, state.false_detections
    for slot in range(SLOTS):
        info.detected[slot] = state.detected[slot] if slot < state.num_detections else NOTHING
    info.drift = math.hypot(row - start_row - state.odometry[0], col - start_col - state.odometry[1])
    info.context = state.context


class TopoNav(KernelEnv):
    """Navigation of open country in three scenarios.

    Attributes:
        shape: (rows, columns) of the view.
        cone: int64 (cells, 2), cells ahead and to the right of all that may be in view.

    Args:
        scenario: "goal", "feature" or "terrain".
        size: cells along each side of the map, 16 to 128.
        tiles: along each side; size / tiles is the width of a valley with its ridge, at least 4. 1 is a field without ridges.
        clearings: (fewest, most) of them.
        dead_ends: how many, 0 to 4.
        dead_end_depth: moves from the entrance to the far end, at least.
        density: (least, most), the share of cells with obstacles.
        rough: share of rough ground, 0 to 0.6; rough_success: probability that a move onto it succeeds, 0.05 to 1.
        landmarks: (fewest, most) of them, at most 100; landmark_types: 2 to 16.
        targets: landmarks asked for by "feature", 1 to 6.
        goal_distance: moves of the shortest path, at least.
        late_step: after this step passes are closed; late_passes: how many, at most, 0 to 8.
        view_range: cells, 2 to 12; view_angle: degrees, 30 to 180.
        miss, false_positives: probabilities, for each landmark in view and for each step.
        position_noise: standard deviation of detected positions in cells, 0 to 10.
        drift: probability of a skid for each cell moved.
        split: "train" or "test".
        num_contexts: number of distinct episodes to draw from; None draws every episode afresh.
        layout_seed: selects the set of contexts; only with num_contexts.
        max_steps: time limit in steps, up to 100_000.
    Raises:
        ValueError: an argument is outside the ranges above, or clearings, dead ends or ridges don't fit on the map.
    """

    keys = {"up": FORWARD, "left": LEFT, "right": RIGHT, "s": STAY}

    def __init__(
        self,
        scenario="goal",
        size=64,
        tiles=8,
        clearings=(3, 6),
        dead_ends=2,
        dead_end_depth=20,
        density=(0.1, 0.2),
        rough=0.1,
        rough_success=0.6,
        landmarks=(15, 30),
        landmark_types=8,
        targets=4,
        goal_distance=60,
        late_step=200,
        late_passes=2,
        view_range=8,
        view_angle=120,
        miss=0.1,
        false_positives=0.05,
        position_noise=0.5,
        drift=0.01,
        split="train",
        num_contexts=None,
        layout_seed=0,
        max_steps=800,
        render_mode=None,
        max_episode_steps=None,
    ):
        for name, value, known in (("scenario", scenario, SCENARIOS), ("split", split, SPLITS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        check_integer("size", size, 16, MAX_SIZE)
        check_integer("tiles", tiles, 1, min(MAX_TILES, size // 4))
        check_integer("dead_ends", dead_ends, 0, 4 if tiles > 2 else 0)
        check_integer("dead_end_depth", dead_end_depth, 1, MAX_SIZE)
        clearings = check_range("clearings", clearings, 0, most_clearings(tiles), check_integer)
        density = check_range("density", density, 0.0, 0.3, check_number)
        check_plan(size, tiles, clearings, dead_ends, dead_end_depth, density)
        landmarks = check_range("landmarks", landmarks, 0, 100, check_integer)
        check_integer("landmark_types", landmark_types, 2, 16)
        check_integer("goal_distance", goal_distance, 1, size)
        check_integer("targets", targets, 1, MAX_TARGETS)
        if scenario == "feature" and landmarks[0] < targets:
            raise ValueError(f"landmarks must be at least the {targets} targets, got {landmarks!r}")
        check_number("rough", rough, 0.0, 0.6)
        check_number("rough_success", rough_success, 0.05, 1.0)
        check_integer("late_passes", late_passes, 0, 8)
        check_integer("max_steps", max_steps, 1, 100_000)
        check_integer("late_step", late_step, 0, 2**31 - 1)
        check_integer("view_range", view_range, 2, 12)
        check_number("view_angle", view_angle, 30.0, 180.0)
        for name, value in (("miss", miss), ("false_positives", false_positives), ("drift", drift)):
            check_number(name, value, 0.0, 1.0)
        check_number("position_noise", position_noise, 0.0, 10.0)
        if num_contexts is not None:
            check_integer("num_contexts", num_contexts, 1, 2**31 - 1)
        check_integer("layout_seed", layout_seed, 0, 2**63 - 1)

        self.cone, rays = cast(view_range, view_angle)
        side = int(self.cone[:, 1].max())
        self.shape = (view_range + 1, 2 * side + 1)
        number = np.full(self.shape, -1)
        number[self.cone[:, 0], self.cone[:, 1] + side] = np.arange(len(self.cone))
        feature, stride = scenario == "feature", size + 2 * view_range
        steps = np.array(DOWN) * stride + EAST  # one cell ahead, by heading; a step to the right is one ahead after a turn
        parts = {"cone": spaces.Box(0, 1, (4, *self.shape), np.uint8)}
        parts["detections"] = spaces.Box(-np.inf, np.inf, (SLOTS, 3 + landmark_types), np.float32)
        parts["odometry"] = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        parts["heading"], parts["last"] = spaces.Discrete(4), spaces.MultiBinary(2)
        parts["clock"] = spaces.Box(0.0, 1.0, (1,), np.float32)
        if feature:
            parts["target"], parts["found"] = spaces.Discrete(landmark_types), spaces.Box(0.0, 1.0, (1,), np.float32)
        else:
            parts["goal"] = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.dynamics = (reset, step, observe_target if feature else observe_goal, inform)
        super().__init__(
            state=topo_nav_state(
                size,
                view_range,
                tiles,
                dead_ends,
                late_passes,
                max(landmarks[1], 1),
                targets if feature else 1,
                len(rays),
                max_steps,
            ),
            params=dict(
                **valley_params(
                    size,
                    view_range,
                    tiles,
                    density,
                    clearings,
                    dead_ends,
                    dead_end_depth,
                    late_passes,
                    SPLITS.index(split),
                ),
                feature=feature,
                terrain=scenario == "terrain",
                reach=1 if feature else 0,
                goal_distance=goal_distance,
                few_landmarks=landmarks[0],
                many_landmarks=landmarks[1],
                num_types=landmark_types,
                rough=float(rough),
                rough_success=float(rough_success),
                late_step=late_step,
                miss=float(miss),
                false_positives=float(false_positives),
                position_noise=float(position_noise),
                drift=float(drift),
                num_contexts=num_contexts or 0,
                layout_seed=layout_seed,
                max_steps=max_steps,
                forward=self.cone[:, 0],
                right=self.cone[:, 1],
                number=number,
                pixels=(view_range - self.cone[:, 0]) * self.shape[1] + self.cone[:, 1] + side,
                offsets=np.outer(steps, self.cone[:, 0]) + np.outer(np.roll(steps, -1), self.cone[:, 1]),
                rays=rays,
            ),
            observation_space=spaces.Dict(parts),
            action_space=spaces.Discrete(4),
            info=dict(
                cell=int,
                distance=int,
                shortest_path=int,
                path_length=int,
                spl=float,
                success=bool,
                found=int,
                visited=int,
                coverage=float,
                collisions=int,
                rough_failures=int,
                skids=int,
                dead_end_steps=int,
                false_detections=int,
                detected=(int, (SLOTS,)),
                drift=float,
                context=int,
            ),
            flat=True,
            max_steps=max_steps,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw(self, canvas, state):
        draw_journey(canvas, state, self.params[0], self.in_view(state.visible, state.cell, state.heading))

    def in_view(self, visible, cell, heading):
        """Which cells, as `valleys` numbers them, are in view by these fields of a state: bool (cells,)."""
        view = np.zeros(int(self.params["stride"][0]) ** 2, bool)
        seen = [bool(visible[i // WORD] >> i % WORD & 1) for i in range(len(self.cone))]
        view[cell + self.params["offsets"][0, heading, seen]] = True
        return view


def check_range(name, pair, low, high, check):
    """(least, most) as a tuple.

    Raises:
        ValueError: they aren't two numbers in [low, high], or the first one is larger.
    """
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise ValueError(f"{name} must be (least, most), got {pair!r}")
    for value in pair:
        check(name, value, low, high)
    if pair[0] > pair[1]:
        raise ValueError(f"{name} must be (least, most), got {pair!r}")
    return tuple(pair)


def most_clearings(tiles):
    """Blocks of 2x2 tiles that always fit, wherever the ones before them are: each takes at most 9 of the places."""
    return max(0, ((tiles - 1) ** 2 - 1) // 9 + 1) if tiles > 2 else 0


def check_plan(size, tiles, clearings, dead_ends, dead_end_depth, density):
    """Check that all that is asked for fits on the map.

    Raises:
        ValueError: it doesn't.
    """
    chain = chain_length(size, tiles, dead_end_depth)
    if 4 * clearings[1] + dead_ends * chain > 0.8 * tiles**2:
        raise ValueError(
            f"clearings and dead_ends must leave a fifth of the {tiles**2} tiles to valleys, got clearings={clearings!r} of 4 "
            f"and dead_ends={dead_ends} of {chain} (for dead_end_depth={dead_end_depth})"
        )
    walls = max(0, most_walls(size, tiles)) / size**2
    least = max(walls, density[0]) + 2 / size**2
    if density[1] < least:
        raise ValueError(f"density must end at {least:.4f} or above, to leave room for the ridges, got {density!r}")


TopoNavVector = vectorize(TopoNav)
