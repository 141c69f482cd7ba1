"""Driving: follow a route through traffic, by rewards that either count the route alone or tell how to drive.

Observation: float32 (105,), everything as seen from the ego, lengths over 50 m, speeds over 20 m/s. Ego (13): speed,
             acceleration over 6 m/s^2, steering, yaw rate in rad/s, speed limit, what the next crossing on the route shows
             (green, yellow, red; all 0 without lights or farther than 50 m), distance to its stop line (then 1), whether on
             a crossing, metres from the lane's centre and from the route over 3.5 m, angle to the route over pi. Then the
             points of the route 5, 10 to 50 m ahead, x forwards and y to the left. Then of the 8 nearest actors within 50 m:
             x, y, cos and sin of their heading, velocity less the ego's (2), whether vehicle, pedestrian or obstacle; zeros
             for none. With critic=True or raster > 0 a Dict:
             "vector" is this; "critic" float32 (11,): shares of time and route that are left, remaining shares of the
             penalties for time to collision and for the 6 limits of comfort, of the time off the lane's centre, of the
             time until standing counts as blocked; "raster" uint8 (raster, raster, 6), 64 m x 64 m, the ego 16 m above its
             lower edge: road, route, markings, vehicles, pedestrians, lights (85 green, 170 yellow, 255 red).
Action:      float32 (2,) in [-1, 1]: steering (left positive; 1 is 0.6 rad of the wheels) and acceleration (1 is 3 m/s^2, -1
             is -6 m/s^2). Forwards only, up to 20 m/s; 0.1 s per step.
Reward:      reward="simple": percent of the route gained in this step x factors, less 1 (hint) for a collision or a red light.
             Factors: 0 outside the route's lanes; max(0, 1 - (v - limit) / 2.23 m/s); 0.5 for 500 (penalty_steps) steps after
             boxes that go straight on would touch within 0.9 s; 1 - 0.5 n / 6 if n limits of comfort were exceeded in the last
             500 steps; 0.5 if the nearest lane's centre was more than 0.5 m away for over 3 s. "additive": the gain, time to
             collision, speed and comfort summed with weights 5, 5, 4, 2 over 16. "shaped": 1 - |v - desired| / limit - distance
             from the route / 2 m - angle to it - 0.1 if steering changed, -1 at a failure and -v at a collision or red light.
Terminates:  on failure: collision, red light, more than 95 % of the box off the road, 30 m from the route, standing for over
             30 s, or out of time after max_steps (600). In evaluation the first three only count.
Truncates:   at the end of the route.
Info:        route_completion (percent), driving_score = route_completion x share of it inside the route's lanes x product of
             penalties (0.5 per pedestrian hit, 0.6 per vehicle, 0.65 per obstacle, 0.7 per red light), success (end of the
             route reached), the counts vehicles_hit, pedestrians_hit, obstacles_hit, red_lights and off_roads, blocked,
             left_route, timeout; factor_lanes, factor_speed, factor_ttc, factor_comfort, factor_centre; speed, speed_limit.
Roads:       1 or 2 crossings of two-way roads, two lanes of 3.5 m each way, each an arc that bends by up to 15 degrees; the
             route is 150 to 400 m long and keeps its lane, in which an obstacle stands. One crossing or both have lights.
Traffic:     8 to 15 vehicles by the intelligent driver model, which give way to those who have claimed a crossing before them,
             and 2 pedestrians.
Source:      rewards, infractions and the critic's inputs are those of Jaeger et al., 2025, CaRL: learning scalable planning
             policies with simple rewards, arXiv:2504.17838, the shaped reward that of Zhang et al., 2021, arXiv:2108.08265, the
             score that of the CARLA leaderboard; the world is this suite's, in the place of CARLA.

That the end of the route truncates and running out of time terminates is the source's rule: values are bootstrapped at the end
of the route. The penalties' memories are hidden from the plain observation; a value function needs critic=True for them.
"""

import math

import numpy as np
from gymnasium import spaces

from explore_gym.envs.bandits.checks import check_integer, check_number
from explore_gym.envs.engine import KernelEnv, kernel, state_dtype, uniform, vectorize
from explore_gym.envs.navigation.driving_rewards import (
    ADDITIVE,
    OFF_CENTRE_STEPS,
    SHAPED,
    STANDING,
    additive,
    collide,
    comfort_filters,
    is_off,
    locate,
    remember_motion,
    reset_rewards,
    rewards_state,
    shaped,
    simple,
    update_factors,
)
from explore_gym.envs.navigation.driving_views import draw_world, paint
from explore_gym.envs.navigation.roads import (
    HALF_ROAD,
    LANE,
    LANES,
    LENGTH,
    MAX_BEND,
    OFFSETS,
    ON_CROSSING,
    SHORTEST_TWO,
    build,
    conflicts,
    pose,
    project,
    roads_state,
    surface,
)
from explore_gym.envs.navigation.traffic import (
    AT_LINE,
    BEYOND,
    DT,
    EGO_LENGTH,
    MEET,
    PLANNED,
    RED,
    SLOW,
    drive_vehicles,
    kind_of,
    light_of_way,
    populate,
    remove,
    traffic_state,
    walk_pedestrians,
)

STEER, WHEELBASE = 0.6, 2.8  # rad, m
THRUST, BRAKE, TOP_SPEED = 3.0, 6.0, 20.0  # m/s^2, m/s
NEAR = 8.0  # m from the route, beyond which nothing is gained
POINTS, POINT_SPACING = 10, 5.0  # m
ACTORS, VIEW = 8, 50.0  # m
OF_EGO, OF_ACTOR, OF_CRITIC = 13, 9, 11
SIZE = OF_EGO + 2 * POINTS + OF_ACTOR * ACTORS
CHANNELS = 6
REWARDS = ("simple", "shaped", "additive")
COUNTS = ("vehicles_hit", "pedestrians_hit", "obstacles_hit", "red_lights", "off_roads")
FACTORS = ("factor_lanes", "factor_speed", "factor_ttc", "factor_comfort", "factor_centre")


@kernel
def reset(params, state):
    state.elapsed = 0
    state.speed_limit = uniform(state, params.slowest, params.fastest)
    build(params, state)
    state.x, state.y, state.heading = pose(state, state.route[0], state.route_start)
    state.cos, state.sin = math.cos(state.heading), math.sin(state.heading)
    state.speed, state.acceleration_along, state.yaw_rate, state.steer, state.last_steer = 0.0, 0.0, 0.0, 0.0, 0.0
    state.leg, state.farthest = 0, state.route_start
    state.ego_claim, state.ego_along, state.ego_way, state.ego_waited, state.ego_let = -1, -1.0, -1, 0, 0
    populate(params, state)
    reset_rewards(state)
    state.finished, state.blocked, state.left_route, state.timeout = False, False, False, False


@kernel
def step(params, state, action):
    state.elapsed += 1
    drive(state, action)
    gain, distance, ran_red = follow(params, state)
    claim(params, state)
    drive_vehicles(params, state)
    walk_pedestrians(params, state)
    crossing, state.off_lane, off_centre = locate(state)
    update_factors(params, state, crossing, off_centre)
    if state.off_lane:
        state.outside += gain
    hit = collide(state)
    was_off, state.is_off_road = state.is_off_road, is_off(state)
    fell_off = state.is_off_road and not was_off
    state.red_lights += 1 if ran_red else 0
    state.off_roads += 1 if fell_off else 0
    state.still = state.still + 1 if state.speed < STANDING else 0
    state.finished = state.farthest >= state.route_end
    state.blocked, state.left_route = state.still > params.blocked_steps, distance > params.deviation
    state.timeout = state.elapsed >= params.max_steps and not state.finished
    broken = hit or ran_red or fell_off
    end = state.blocked or state.left_route or state.timeout or (broken and not params.evaluation)
    if params.reward == SHAPED:
        reward = shaped(params, state)
        if end or broken:
            reward -= 1.0
        if hit or ran_red:
            reward -= state.speed
    else:
        reward = additive(params, state, gain) if params.reward == ADDITIVE else simple(state, gain)
        if hit or ran_red:
            reward -= params.hint
    if hit:
        stand(state)
    if state.finished and not end:
        state.t = params.time_limit  # the engine truncates by this clock; `elapsed` is the time
    return reward, end


@kernel
def drive(state, action):
    """Kinematic bicycle whose reference point is its middle, exactly along the arc that the wheels prescribe."""
    state.last_steer, state.steer = state.steer, float(action[0])
    push = float(action[1])
    wanted = state.speed + DT * push * (THRUST if push > 0.0 else BRAKE)
    speed = min(max(0.0, wanted), TOP_SPEED)
    distance = 0.5 * DT * (speed + state.speed)
    wheels = math.tan(STEER * state.steer)
    slip = math.atan(0.5 * wheels)
    turned = distance * math.cos(slip) * wheels / WHEELBASE
    direction = state.heading + slip
    if turned == 0.0:
        state.x += distance * math.cos(direction)
        state.y += distance * math.sin(direction)
    else:
        radius = distance / turned
        state.x += radius * (math.sin(direction + turned) - math.sin(direction))
        state.y -= radius * (math.cos(direction + turned) - math.cos(direction))
    state.heading += turned
    state.cos, state.sin = math.cos(state.heading), math.sin(state.heading)
    state.yaw_rate = turned / DT
    state.acceleration_along = (speed - state.speed) / DT
    state.speed = speed
    remember_motion(state, state.acceleration_along, speed * state.yaw_rate)


@kernel
def follow(params, state):
    """Move on along the route. Returns the percent gained, metres from the route, and whether a red light was passed."""
    s, side = project(state, state.route[state.leg], state.x, state.y)
    while state.leg + 1 < state.num_legs and s > state.segments[state.route[state.leg], LENGTH]:
        state.leg += 1
        s, side = project(state, state.route[state.leg], state.x, state.y)
    distance = math.sqrt(side * side + min(s, 0.0) * min(s, 0.0))
    place = min(state.route_starts[state.leg] + s, state.route_end)
    if distance > NEAR or place <= state.farthest:
        return 0.0, distance, False
    ran_red = False
    for leg in range(1, state.num_legs, 2):
        line = state.route_starts[leg] - EGO_LENGTH
        if state.farthest < line <= place and light_of_way(params, state, state.route[leg]) == RED:
            ran_red = True
    gain = 100.0 * (place - state.farthest) / (state.route_end - state.route_start)
    state.farthest = place
    state.completion = min(100.0, state.completion + gain)
    return gain, distance, ran_red


@kernel
def claim(params, state):
    """Which way through a crossing the ego has claimed: the one that it is on, or rolls towards and is near to without red.

    Who waits for it at the line is let go, too.
    """
    segment, next_leg = state.route[state.leg], state.leg + 1
    s, _ = project(state, segment, state.x, state.y)
    waited, let = state.ego_waited + 1, state.ego_let + 1
    state.ego_claim, state.ego_along, state.ego_way, state.ego_waited, state.ego_let = -1, -1.0, -1, 0, 0
    if segment >= LANES:
        state.ego_claim, state.ego_along = segment, s
    elif state.leg > 0 and s < 1.5 * EGO_LENGTH:
        state.ego_claim, state.ego_along = state.route[state.leg - 1], BEYOND
    elif next_leg < state.num_legs:
        stop, red = state.segments[segment, LENGTH] - s - EGO_LENGTH, light_of_way(params, state, state.route[next_leg]) == RED
        if not red:
            state.ego_way = state.route[next_leg]
        if state.speed <= SLOW and stop < AT_LINE:
            state.ego_waited, state.ego_let = waited, 0 if red else let
        elif not red and stop < state.speed * state.speed / (2.0 * PLANNED) + MEET:
            state.ego_claim = state.ego_way


@kernel
def stand(state):
    """After a collision the ego stands, and the vehicles that it has hit are gone."""
    state.speed = 0.0
    for i in range(state.num_vehicles):
        if state.touching >> i & 1 == 1:
            remove(state, i)


@kernel
def observe(params, state, obs):
    look(params, state, obs)


@kernel
def observe_critic(params, state, obs):
    look(params, state, obs.vector)
    remain(params, state, obs.critic)


@kernel
def observe_raster(params, state, obs):
    look(params, state, obs.vector)
    paint(params, state, obs.raster)


@kernel
def observe_all(params, state, obs):
    look(params, state, obs.vector)
    remain(params, state, obs.critic)
    paint(params, state, obs.raster)


@kernel
def look(params, state, obs):
    segment, next_leg = state.route[state.leg], state.leg + 1
    s, side = project(state, segment, state.x, state.y)
    turned = state.heading - pose(state, segment, s)[2]
    obs[0], obs[1], obs[2] = state.speed / TOP_SPEED, state.acceleration_along / BRAKE, state.steer
    obs[3], obs[4] = state.yaw_rate, state.speed_limit / TOP_SPEED
    for i in range(5, 9):
        obs[i] = 0.0
    obs[8] = 1.0
    if segment < LANES and next_leg < state.num_legs:
        stop = state.segments[segment, LENGTH] - s - EGO_LENGTH
        if stop < VIEW:
            obs[8] = stop / VIEW
            colour = light_of_way(params, state, state.route[next_leg])
            if colour > 0:
                obs[4 + colour] = 1.0
    obs[9] = 1.0 if surface(state, state.x, state.y)[0] >= ON_CROSSING else 0.0
    from_centre, from_middle = side, side - OFFSETS[segment % 2]
    if segment < LANES and abs(from_middle) <= HALF_ROAD:
        from_centre = from_middle % LANE - 0.5 * LANE
    obs[10] = from_centre / LANE
    obs[11], obs[12] = side / LANE, math.atan2(math.sin(turned), math.cos(turned)) / math.pi
    see_route(state, s, obs)
    see_actors(state, obs)


@kernel
def see_route(state, s, obs):
    leg = state.leg
    for point in range(POINTS):
        s += POINT_SPACING
        while leg + 1 < state.num_legs and s > state.segments[state.route[leg], LENGTH]:
            s -= state.segments[state.route[leg], LENGTH]
            leg += 1
        x, y, _ = pose(state, state.route[leg], s)
        dx, dy = x - state.x, y - state.y
        obs[OF_EGO + 2 * point] = (dx * state.cos + dy * state.sin) / VIEW
        obs[OF_EGO + 2 * point + 1] = (dy * state.cos - dx * state.sin) / VIEW


@kernel
def see_actors(state, obs):
    """The nearest actors in the order of their distance; of equally near ones the first of the table first."""
    for i in range(OF_EGO + 2 * POINTS, SIZE):
        obs[i] = 0.0
    last, last_square = -1, -1.0
    for slot in range(ACTORS):
        nearest, square = -1, VIEW * VIEW
        for actor in range(len(state.present)):
            dx, dy = state.actor_x[actor] - state.x, state.actor_y[actor] - state.y
            d = dx * dx + dy * dy
            if state.present[actor] == 1 and d < square and (d > last_square or (d == last_square and actor > last)):
                nearest, square = actor, d
        if nearest < 0:
            return
        see_actor(state, nearest, obs, OF_EGO + 2 * POINTS + OF_ACTOR * slot)
        last, last_square = nearest, square


@kernel
def see_actor(state, actor, obs, k):
    dx, dy = state.actor_x[actor] - state.x, state.actor_y[actor] - state.y
    cos, sin = state.actor_cos[actor], state.actor_sin[actor]
    ahead, left = cos * state.cos + sin * state.sin, sin * state.cos - cos * state.sin
    obs[k], obs[k + 1] = (dx * state.cos + dy * state.sin) / VIEW, (dy * state.cos - dx * state.sin) / VIEW
    obs[k + 2], obs[k + 3] = ahead, left
    obs[k + 4] = (state.actor_speed[actor] * ahead - state.speed) / TOP_SPEED
    obs[k + 5] = state.actor_speed[actor] * left / TOP_SPEED
    obs[k + 6 + kind_of(state, actor)] = 1.0


@kernel
def remain(params, state, obs):
    """What the critic sees beside: time, route and the memories of the penalties."""
    obs[0] = 1.0 - state.elapsed / params.max_steps
    obs[1] = 1.0 - 0.01 * state.completion
    obs[2] = state.ttc_left / params.penalty_steps
    for i in range(6):
        obs[3 + i] = state.comfort_left[i] / params.penalty_steps
    obs[9] = min(1.0, state.off_centre / (OFF_CENTRE_STEPS + 1))
    obs[10] = 1.0 - state.still / (params.blocked_steps + 1)


@kernel
def inform(params, state, info):
    score = state.completion * (1.0 - 0.01 * state.outside)
    for _ in range(state.pedestrians_hit):
        score *= params.penalties[0]
    for _ in range(state.vehicles_hit):
        score *= params.penalties[1]
    for _ in range(state.obstacles_hit):
        score *= params.penalties[2]
    for _ in range(state.red_lights):
        score *= params.penalties[3]
    info.route_completion, info.driving_score, info.success = state.completion, score, state.finished
    info.vehicles_hit, info.pedestrians_hit, info.obstacles_hit = state.vehicles_hit, state.pedestrians_hit, state.obstacles_hit
    info.red_lights, info.off_roads = state.red_lights, state.off_roads
    info.blocked, info.left_route, info.timeout = state.blocked, state.left_route, state.timeout
    info.factor_lanes, info.factor_speed, info.factor_ttc = state.factor_lanes, state.factor_speed, state.factor_ttc
    info.factor_comfort, info.factor_centre = state.factor_comfort, state.factor_centre
    info.speed, info.speed_limit = state.speed, state.speed_limit


class Driving(KernelEnv):
    """A route through traffic.

    Attributes:
        parts: name -> slice of the vector that is observed: ego, route, actors.

    Args:
        reward: "simple", "shaped" or "additive".
        evaluation: whether collisions, red lights and leaving the road are counted and don't end the episode; after a collision
            the ego stands and the vehicle is gone.
        hint: subtracted for a collision or a red light by the rewards "simple" and "additive", 0 to 100.
        penalty_steps: for which a violation of time to collision or of comfort counts, 1 to 100_000.
        penalties: factors of the driving score for each pedestrian, vehicle and obstacle hit and each red light.
        additive_steps: steps in which each further term of "additive" sums to 100, 1 to 100_000.
        shaped_speed: m/s, largest desired speed of "shaped", 0.1 to 20; None: the speed limit.
        crossings: (fewest, most), 1 or 2.
        route_length: (shortest, longest) in m, 150 to 400; two crossings need 260.
        bend: degrees between the two ends of a road, at most; 0 to 15.
        speed_limit: (least, most) in m/s, 5 to 20.
        vehicles: (fewest, most) others, 0 to 32.
        pedestrians: 0 to 8.
        crossing_rate: wishes per second of a pedestrian to cross the road, 0 to 10.
        obstacle: whether something stands in the route's lane.
        cycle: seconds of a cycle of the lights, 8 to 120: half of it less 2.5 green, 2 yellow, the rest red.
        deviation: m from the route that end the episode, 8 to 100.
        blocked_time: seconds of standing that end the episode, 1 to 10_000.
        critic: whether to observe what a critic needs, too.
        raster: pixels along a side of the raster to observe, 8 to 256, or 0 for none.
        max_steps: of an episode, 1 to 100_000.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    def __init__(
        self,
        reward="simple",
        evaluation=False,
        hint=1.0,
        penalty_steps=500,
        penalties=(0.5, 0.6, 0.65, 0.7),
        additive_steps=400,
        shaped_speed=None,
        crossings=(1, 2),
        route_length=(150.0, 400.0),
        bend=15.0,
        speed_limit=(11.0, 14.0),
        vehicles=(8, 15),
        pedestrians=2,
        crossing_rate=0.05,
        obstacle=True,
        cycle=12.0,
        deviation=30.0,
        blocked_time=30.0,
        critic=False,
        raster=0,
        max_steps=600,
        render_mode=None,
        max_episode_steps=None,
    ):
        if reward not in REWARDS:
            raise ValueError(f"reward must be one of {', '.join(REWARDS)}, got {reward!r}")
        check_number("hint", hint, 0.0, 100.0)
        check_integer("penalty_steps", penalty_steps, 1, 100_000)
        check_integer("additive_steps", additive_steps, 1, 100_000)
        if shaped_speed is not None:
            check_number("shaped_speed", shaped_speed, 0.1, TOP_SPEED)
        penalties = np.asarray(penalties, np.float64)
        if penalties.shape != (4,) or not ((penalties >= 0.0) & (penalties <= 1.0)).all():
            raise ValueError(f"penalties must be 4 numbers in [0, 1], got {penalties.tolist()}")
        check_pair("crossings", crossings, 1, 2, whole=True)
        check_pair("route_length", route_length, 150.0, 400.0)
        if crossings[1] == 2 and route_length[1] < SHORTEST_TWO:
            raise ValueError(f"route_length must reach {SHORTEST_TWO:g} for two crossings, got {route_length!r}")
        check_number("bend", bend, 0.0, MAX_BEND)
        check_pair("speed_limit", speed_limit, 5.0, TOP_SPEED)
        check_pair("vehicles", vehicles, 0, 32, whole=True)
        check_integer("pedestrians", pedestrians, 0, 8)
        check_number("crossing_rate", crossing_rate, 0.0, 10.0)
        check_number("cycle", cycle, 8.0, 120.0)
        check_number("deviation", deviation, NEAR, 100.0)
        check_number("blocked_time", blocked_time, 1.0, 10_000.0)
        if raster != 0:
            check_integer("raster", raster, 8, 256)
        check_integer("max_steps", max_steps, 1, 100_000)
        self.parts = {
            "ego": slice(0, OF_EGO),
            "route": slice(OF_EGO, OF_EGO + 2 * POINTS),
            "actors": slice(OF_EGO + 2 * POINTS, SIZE),
        }
        observers = {(0, 0): observe, (1, 0): observe_critic, (0, 1): observe_raster, (1, 1): observe_all}
        self.dynamics = (reset, step, observers[bool(critic), raster > 0], inform)
        space = spaces.Box(-np.inf, np.inf, (SIZE,), np.float32)
        if critic or raster:
            keys = {"vector": space}
            if critic:
                keys["critic"] = spaces.Box(0.0, 1.0, (OF_CRITIC,), np.float32)
            if raster:
                keys["raster"] = spaces.Box(0, 255, (raster, raster, CHANNELS), np.uint8)
            space = spaces.Dict(keys)
        bits, clear = conflicts()
        super().__init__(
            state=state_dtype(
                x=np.float64,
                y=np.float64,
                heading=np.float64,  # rad, not wrapped
                cos=np.float64,
                sin=np.float64,
                speed=np.float64,
                acceleration_along=np.float64,
                yaw_rate=np.float64,
                steer=np.float64,  # the last action's
                last_steer=np.float64,
                elapsed=np.int64,
                speed_limit=np.float64,
                leg=np.int64,  # of the route
                farthest=np.float64,  # m along the route
                ego_claim=np.int64,  # way through a crossing, -1 for none
                ego_along=np.float64,  # m on it, -1 before it
                ego_way=np.int64,  # the one ahead, -1 for none or at red
                ego_waited=np.int64,  # steps at its line,
                ego_let=np.int64,  # and without red
                finished=np.bool_,
                blocked=np.bool_,
                left_route=np.bool_,
                timeout=np.bool_,
                **roads_state(),
                **traffic_state(vehicles[1], pedestrians),
                **rewards_state(),
            ),
            params=dict(
                reward=REWARDS.index(reward),
                evaluation=bool(evaluation),
                hint=float(hint),
                penalty_steps=penalty_steps,
                penalties=penalties,
                additive_steps=additive_steps,
                shaped_speed=float(shaped_speed or 0.0),
                fewest_crossings=crossings[0],
                most_crossings=crossings[1],
                shortest=float(route_length[0]),
                longest=float(route_length[1]),
                bend=math.radians(bend),
                slowest=float(speed_limit[0]),
                fastest=float(speed_limit[1]),
                fewest_vehicles=vehicles[0],
                most_vehicles=vehicles[1],
                crossing_rate=float(crossing_rate),
                obstacle=bool(obstacle),
                cycle=float(cycle),
                deviation=float(deviation),
                blocked_steps=round(blocked_time / DT),
                max_steps=max_steps,
                conflicts=bits,
                clear=clear,
                **comfort_filters(),
            ),
            observation_space=space,
            action_space=spaces.Box(-1.0, 1.0, (2,), np.float32),
            info=dict(
                route_completion=float,
                driving_score=float,
                success=bool,
                **dict.fromkeys(COUNTS, int),
                blocked=bool,
                left_route=bool,
                timeout=bool,
                **dict.fromkeys(FACTORS, float),
                speed=float,
                speed_limit=float,
            ),
            max_steps=max_steps + 1,  # this clock ends episodes at the end of the route only
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw(self, canvas, state):
        draw_world(canvas, state, float(self.params["cycle"][0]))


def check_pair(name, values, low, high, whole=False):
    """Raises a ValueError unless values are two numbers, or integers, in [low, high], the first not above the second."""
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if not (
        isinstance(values, (tuple, list))
        and len(values) == 2
        and all(isinstance(value, kinds) and not isinstance(value, bool) for value in values)
        and low <= values[0] <= values[1] <= high
    ):
        what = "integers" if whole else "numbers"
        raise ValueError(f"{name} must be two {what} in [{low:g}, {high:g}], the first not above the second, got {values!r}")


DrivingVector = vectorize(Driving)
