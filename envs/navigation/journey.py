"""The picture of a journey through a map of `valleys`."""

import functools
import itertools

import numpy as np

from explore_gym.envs.navigation.valleys import BLOCKED, CLEARING, GOAL, ROCK, ROUGH

GRASS, MEADOW, MUD = (214, 226, 186), (236, 240, 208), (214, 184, 140)
STONE, WOOD = (128, 122, 118), (74, 120, 66)
DARK, LIGHT = (58, 66, 84), (255, 232, 90)  # what hasn't been seen, what is in view
PATH, AGENT, GHOST, FLAG = (40, 90, 200), (214, 50, 44), (120, 60, 150), (230, 30, 120)
KINDS = (  # colours of the types of landmarks
    (228, 108, 10), (38, 150, 190), (150, 70, 180), (200, 160, 0), (0, 140, 110), (190, 60, 90), (90, 90, 90), (70, 110, 230),
    (160, 110, 60), (20, 110, 40), (240, 130, 170), (110, 150, 20), (60, 60, 140), (180, 30, 30), (0, 170, 170), (9, 80, 130),
)  # fmt: skip
TURN = ((1, 0), (0, 1), (-1, 0), (0, -1))  # one cell ahead by heading, (x, y)


def draw_journey(canvas, state, params, view):
    """The map, darker where it hasn't been seen, yellow what is in view; landmarks by letter, the path, the agent.

    A cross marks where the agent is by its odometer, a ring the landmarks asked for. `view`: which of the ground's cells are
    in view, bool (cells,).
    """
    size, margin, stride = int(params["size"]), int(params["margin"]), int(params["stride"])
    inner = slice(margin, margin + size)
    ground, marks = (field.reshape(stride, stride)[inner, inner] for field in (state.ground, state.marks))
    view = view.reshape(stride, stride)[inner, inner]
    canvas.size(size, size + caption_height(size))
    for row, col in np.ndindex(size, size):
        in_view = bool(view[row, col])
        draw_cell(canvas, row, col, int(ground[row, col]), in_view or bool(marks[row, col]), in_view)

    def place(cell):
        """The middle of a cell as (x, y)."""
        row, col = divmod(int(cell), stride)
        return col - margin + 0.5, row - margin + 0.5

    path = [place(cell) for cell in state.trail[: int(state.t) + 1]]
    scale = size / 64
    for (x0, y0), (x1, y1) in itertools.pairwise(path):
        if (x0, y0) != (x1, y1):
            canvas.line(x0, y0, x1, y1, PATH, 0.3 * scale, ".")
    canvas.circle(*path[0], 0.6 * scale, PATH, "S")
    for cell in np.flatnonzero(state.ground & GOAL):
        draw_flag(canvas, *place(cell), max(scale, 0.5))
    for number in range(int(state.num_landmarks)):
        x, y = place(state.landmarks[number])
        letter, radius = chr(ord("a") + int(state.types[number])), 1.0 * max(scale, 0.5)
        if params["feature"] and state.types[number] == state.target_type:
            left = number < len(state.targets) and not state.found >> number & 1
            canvas.circle(x, y, 1.7 * radius, FLAG if left else (255, 255, 255))
        canvas.circle(x, y, radius, KINDS[state.types[number]], letter)
        canvas.text(x - 0.45 * radius, y - 0.49, letter, (255, 255, 255), 0.95 * radius)
    draw_agent(canvas, state, place, max(scale, 0.5))
    text = f"step {int(state.t)}   seen {100 * state.seen / state.free:.0f} %   collisions {state.collisions}"
    if params["feature"]:
        letter = chr(ord("a") + int(state.target_type))
        text += f"   found {int(state.found).bit_count()} of {len(state.targets)} landmarks {letter}"
    else:
        text += f"   {int(state.distances[state.cell])} moves to the goal"
    canvas.text(0.3, size + 0.2 * caption_height(size), text, (30, 30, 30), 0.5 * caption_height(size))


def caption_height(size):
    return size / 20


def draw_cell(canvas, row, col, bits, seen, view):
    ground = MUD if bits & ROUGH else MEADOW if bits & CLEARING else GRASS
    if bits & BLOCKED and bits & ROCK:
        canvas.rect(col, row, 1, 1, shade(STONE, seen, view), "#")
        return
    canvas.rect(col, row, 1, 1, shade(ground, seen, view), "~" if bits & ROUGH else None)
    if bits & BLOCKED:
        canvas.circle(col + 0.5, row + 0.5, 0.5, shade(WOOD, seen, view), "t")


@functools.cache
def shade(color, seen, view):
    """The colour of what has been seen, lit up where it is in view, darkened where it hasn't been seen."""
    other, share = (LIGHT, 0.55) if view else (DARK, 0.0 if seen else 0.5)
    return tuple(int((1.0 - share) * a + share * b) for a, b in zip(color, other))


def draw_flag(canvas, x, y, scale):
    canvas.circle(x, y, 1.5 * scale, (255, 255, 255))
    canvas.line(x - 0.5 * scale, y - 1.1 * scale, x - 0.5 * scale, y + 1.1 * scale, (40, 40, 40), 0.25 * scale)
    canvas.polygon(
        [(x - 0.5 * scale, y - 1.1 * scale), (x + 1.0 * scale, y - 0.5 * scale), (x - 0.5 * scale, y + 0.1 * scale)], FLAG
    )
    canvas.circle(x, y, 0.1, FLAG, "G")


def draw_agent(canvas, state, place, scale):
    x, y = place(state.start)
    x, y = x + int(state.odometry[1]), y + int(state.odometry[0])
    for side in (-1, 1):
        canvas.line(x - 0.8 * scale, y - 0.8 * side * scale, x + 0.8 * scale, y + 0.8 * side * scale, GHOST, 0.25 * scale)
    x, y = place(state.cell)
    (a, b), r = TURN[state.heading], 1.3 * scale
    canvas.circle(x, y, 1.3 * r, (255, 255, 255))
    tail = ((x - r * (a - 0.8 * side * b), y - r * (b + 0.8 * side * a)) for side in (1, -1))
    canvas.polygon([(x + r * a, y + r * b), *tail], AGENT)
    canvas.circle(x, y, 0.1, AGENT, ">v<^"[state.heading])
