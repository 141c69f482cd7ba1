"""Coverage functions, the kernels shared by tasks in which a visit covers cells that have weights.

F(visits) = sum over groups g of min(quota_g, sum of w_g(u) over the cells u that a visit covers).

A visit covers the cells from its own up to `reach` further to the right and down. A minimum of a constant and a coverage
function is monotone and submodular, and so is a sum of such.
"""

import numpy as np

from explore_gym.envs.coverage.grid import WalkGrid, begin, heat, move, observe, settle
from explore_gym.envs.engine import kernel


@kernel
def cover(params, state):
    """Cover what a visit of the present cell covers. Returns the gain of F."""
    gain = 0.0
    row, column = state.cell // params.columns, state.cell % params.columns
    for i in range(row, min(row + params.reach + 1, params.rows)):
        for j in range(column, min(column + params.reach + 1, params.columns)):
            cell = i * params.columns + j
            if state.covered[cell] == 0:
                state.covered[cell] = 1
                for group in range(len(state.filled)):
                    room = max(params.quotas[group] - state.filled[group], 0.0)
                    added = min(params.weights[state.context, group, cell], room)
                    state.filled[group] += added
                    gain += added
    return gain


@kernel
def reset(params, state):
    begin(params, state)
    for cell in range(len(state.covered)):
        state.covered[cell] = 0
    for group in range(len(state.filled)):
        state.filled[group] = 0.0
    settle(params, state, cover(params, state))


@kernel
def step(params, state, action):
    if state.length > params.steps:
        return 0.0, True
    move(params, state, action)
    return settle(params, state, cover(params, state))


@kernel
def inform(params, state, info):
    info.F = state.F
    info.modular_reward = params.alone[state.context, state.cell]
    info.coverage = state.F / params.most_F[state.context]
    info.cell = state.cell


class CoverageGrid(WalkGrid):
    """A walk whose visits cover cells with weights.

    Attributes:
        weights: float64 (contexts, groups, cells), 0 in walls. quotas: float64 (groups,). reach: as given.

    Args:
        weights: float64 (contexts, groups, cells), >= 0.
        quotas: float64 (groups,), what is covered of a group beyond this counts nothing; inf: everything counts.
        reach: a visit covers (reach + 1)^2 cells.
        kwargs: those of `WalkGrid`.
    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(self, *, free, weights, quotas, reach, **kwargs):
        self.free, self.weights, self.quotas, self.reach = free, weights * free.ravel(), quotas, reach
        contexts, groups, cells = weights.shape
        alone = [[self.set_function([cell], context) for cell in range(cells)] for context in range(contexts)]
        super().__init__(
            free=free,
            alone=np.array(alone),
            layouts=self.weights.reshape(contexts, -1),
            fields=dict(covered=(np.uint8, (cells,)), filled=(np.float64, (groups,))),
            params=dict(
                rows=free.shape[0],
                columns=free.shape[1],
                reach=reach,
                weights=self.weights,
                quotas=quotas,
                most_F=np.minimum(self.weights.sum(2), quotas).sum(1),
            ),
            **kwargs,
        )

    def set_function(self, cells, context=0):
        covered = np.zeros(self.free.shape, bool)
        for cell in cells:
            row, column = divmod(int(cell), self.free.shape[1])
            covered[row : row + self.reach + 1, column : column + self.reach + 1] = True
        return float(np.minimum(self.weights[context] @ covered.ravel(), self.quotas).sum())

    def draw(self, canvas, state):
        """Brighter where a cell has more weight, grey where it is covered."""
        worth = self.weights[state.context].sum(0)
        self.draw_cells(canvas, state.covered == 1, *heat(worth / worth.max()))
        self.draw_walker(canvas, state)
        self.draw_caption(canvas, state)
