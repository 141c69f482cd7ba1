"""Words and pictures of XLand: rules and goals as sentences, and the drawing of a world."""

import textwrap

import numpy as np

from explore_gym.envs.xland.logic import AT, KIND_NAMES, NONE, NOTHING, SELF
from explore_gym.envs.xland.world import (
    BALL,
    BLACK,
    CLOSED,
    EMPTY,
    GOAL,
    KEY,
    LOCKED,
    MAX_OPTIONS,
    MAX_PREDICATES,
    OPEN,
    PYRAMID,
    SQUARE,
    UNSEEN,
    WALL,
)

TILE_NAMES = (
    "nothing", "end of map", "unseen", "floor", "wall", "ball", "square", "pyramid", "goal", "key", "locked door",
    "closed door", "open door", "agent",
)  # fmt: skip
COLOR_NAMES = ("", "", "", "red", "green", "blue", "purple", "yellow", "grey", "black", "orange", "white")
RGB = (
    (0, 0, 0), (0, 0, 0), (0, 0, 0), (214, 66, 52), (60, 170, 80), (58, 110, 220), (150, 80, 190), (235, 190, 50),
    (130, 130, 130), (38, 38, 44), (240, 140, 40), (240, 240, 240),
)  # fmt: skip
CHARS = {BALL: "o", SQUARE: "s", PYRAMID: "p", GOAL: "G", KEY: "k", LOCKED: "L", CLOSED: "+", OPEN: "_", WALL: "#"}
HEADS = "^>v<"
PANEL, LINE = 11, 0.62  # cells: width of the panel with text, height of its lines
COLUMNS = 40  # characters in such a line


def tile_name(code):
    """A tile in words."""
    kind, color = int(code) & 15, int(code) >> 4
    return TILE_NAMES[kind] if not color else f"{COLOR_NAMES[color]} {TILE_NAMES[kind]}"


def condition_name(kind, a, b):
    """A condition in words."""
    subject = "me" if a == SELF else tile_name(a)
    target = f"({int(b) >> 8}, {int(b) & 255})" if kind == AT else "me" if b == SELF else tile_name(b)
    return f"{subject} {KIND_NAMES[kind]} {target}"


def goal_lines(state, i=0):
    """The goal of agent i, a line for each option."""
    lines = []
    for option in range(MAX_OPTIONS):
        conditions = [state.goals[i, option, k].tolist() for k in range(MAX_PREDICATES)]
        words = ["not " * negated + condition_name(kind, a, b) for kind, negated, a, b in conditions if kind != NONE]
        if words:
            lines.append(" and ".join(words))
    return lines


def rule_lines(state):
    """The rules, a line for each."""
    lines = []
    for kind, a, b, product in state.rules[: state.num_rules].tolist():
        inputs = condition_name(kind, a, b).replace("me ", "agent ", 1)
        lines.append(f"{inputs} -> {'nothing' if product == NOTHING else tile_name(product)}")
    return lines


def draw_world(canvas, state):
    """Cells, agents with their views, and goals and rules in words at the side."""
    height, width = state.grid.shape
    canvas.size(width + PANEL, height)
    for row in range(height):
        for col in range(width):
            code = int(state.grid[row, col])
            canvas.rect(col, row, 1, 1, (70, 70, 76))
            ground = code >> 8 & 15
            rgb = RGB[BLACK] if ground == BLACK else tuple(int(0.45 * c) for c in RGB[ground])  # darker than what lies on it
            canvas.rect(col + 0.03, row + 0.03, 0.94, 0.94, rgb, "," if ground != BLACK else None)
            draw_tile(canvas, col, row, code & 255)
    for i in range(len(state.row)):
        for row, col in visible(state, i):
            canvas.rect(col, row, 1, 1, (255, 255, 255, 50 if len(state.row) == 1 else 28))
    for i in range(len(state.row)):
        draw_agent(canvas, state, i)
    lines = []
    for i in range(len(state.row)):
        who = "goal" if len(state.row) == 1 else f"{COLOR_NAMES[state.team[i]]} agent {i}"
        for k, line in enumerate(goal_lines(state, i)):
            words = f"{who}: {line}" if k == 0 else f"or {line}"
            lines += [(part, bool(state.options[i, k])) for part in textwrap.wrap(words, COLUMNS)]
    lines += [(part, False) for line in rule_lines(state) for part in textwrap.wrap(line, COLUMNS)]
    for k, (line, holds) in enumerate(lines[: int(height / LINE)]):
        canvas.text(width + 0.3, k * LINE + 0.1, line, (20, 130, 50) if holds else (30, 30, 30), 0.42)


def draw_tile(canvas, x, y, code, scale=1.0):
    """A tile in the cell with its upper left corner at (x, y), or smaller in its middle."""
    kind, color, char = code & 15, RGB[code >> 4], CHARS.get(code & 15)
    shift = (1.0 - scale) / 2

    def at(u, v):
        return x + shift + u * scale, y + shift + v * scale

    def rect(u, v, width, height, rgb):
        canvas.rect(*at(u, v), width * scale, height * scale, rgb, char)

    if kind == WALL:
        rect(0, 0, 1, 1, color)
    elif kind == BALL:
        canvas.circle(*at(0.5, 0.5), 0.32 * scale, color, char)
    elif kind == SQUARE:
        rect(0.2, 0.2, 0.6, 0.6, color)
    elif kind == PYRAMID:
        canvas.polygon([at(0.5, 0.15), at(0.85, 0.82), at(0.15, 0.82)], color, char)
    elif kind == GOAL:
        rect(0.03, 0.03, 0.94, 0.94, color)
        rect(0.25, 0.25, 0.5, 0.5, tuple(int(0.7 * c) for c in color))
    elif kind == KEY:
        canvas.circle(*at(0.5, 0.3), 0.18 * scale, color, char)
        rect(0.45, 0.4, 0.1, 0.45, color)
        rect(0.55, 0.65, 0.15, 0.08, color)
    elif kind in (CLOSED, LOCKED):
        rect(0, 0, 1, 1, color)
        rect(0.1, 0.1, 0.8, 0.8, tuple(int(0.55 * c) for c in color))
        if kind == CLOSED:
            canvas.circle(*at(0.75, 0.5), 0.08 * scale, color, char)
        else:
            rect(0.5, 0.5, 0.25, 0.08, color)
    elif kind == OPEN:
        rect(0.88, 0, 0.12, 1, color)


def draw_agent(canvas, state, i):
    """A triangle that points ahead, with what the agent carries on it; among several, with its number beside the tip."""
    x, y, color = int(state.col[i]) + 0.5, int(state.row[i]) + 0.5, RGB[state.team[i]]
    down, east = ((-1, 0), (0, 1), (1, 0), (0, -1))[state.direction[i]]
    if len(state.row) > 1:
        canvas.text(x + 0.3 * (east - down) - 0.1, y + 0.3 * (down + east) - 0.15, str(i), (250, 250, 250), 0.32)
    corners = [(0.42, 0.0), (-0.36, 0.36), (-0.36, -0.36)]  # (ahead, to the right)
    points = [(x + a * east - s * down, y + a * down + s * east) for a, s in corners]
    canvas.polygon(points, (250, 250, 250), HEADS[state.direction[i]])
    canvas.polygon([(x + 0.8 * (px - x), y + 0.8 * (py - y)) for px, py in points], color)
    if state.pocket[i] != EMPTY:
        canvas.circle(x, y, 0.23, RGB[BLACK])  # a thing of the agent's own colour would be lost on it
        draw_tile(canvas, int(state.col[i]), int(state.row[i]), int(state.pocket[i]), 0.42)


def visible(state, i):
    """The (row, col) of the cells that agent i sees."""
    size = int(np.sqrt(state.image.shape[1] // 2))
    y, x = np.nonzero(state.image[i, ::2].reshape(size, size) != UNSEEN)
    ahead, side = size - 1 - y, x - size // 2
    down, east = ((-1, 0), (0, 1), (1, 0), (0, -1))[state.direction[i]]
    rows, cols = state.row[i] + ahead * down + side * east, state.col[i] + ahead * east - side * down
    inside = (rows >= 0) & (rows < state.grid.shape[0]) & (cols >= 0) & (cols < state.grid.shape[1])
    return list(zip(rows[inside].tolist(), cols[inside].tolist()))
