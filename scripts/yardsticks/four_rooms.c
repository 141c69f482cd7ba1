/* The default FourRooms (19x19, 7x7 view) as a plain C loop over a batch, next-step autoreset: what a compiler makes of
   hand-written code for the same records, random stream, observations and metrics, sizes being constants.
   Compiled with KEEP_VIEW it keeps the view while nothing in it changes, as the environment does; without, it looks anew.
   The records have the layout of the environment's state, observation and info dtypes. */

#include <stdint.h>
#include <string.h>

#define SIZE 19
#define HALF (SIZE / 2)
#define VIEW 7
#define SIDE (VIEW / 2)
#define FULL ((1 << VIEW) - 1)
#define WALKABLE ((SIZE - 3) * (SIZE - 3) + 4)

enum { EMPTY = 1, KIND_GOAL = 8, OPAQUE = 1 << 15, WALL = 2 | 5 << 4 | OPAQUE, GOAL = KIND_GOAL | 1 << 4 };

typedef struct {
    uint64_t rng;
    uint16_t grid[SIZE][SIZE];
    uint8_t image[VIEW][VIEW][3];
    uint8_t stale;
    int32_t row, col, direction;
    uint16_t carrying;
    int32_t mission;
    uint8_t success;
    int32_t visited, walkable, first_visits[SIZE * SIZE];
    int32_t context, t;
    uint8_t done;
} State;

typedef struct {
    uint8_t image[VIEW][VIEW][3];
    int64_t direction, mission;
} Obs;

typedef struct {
    int64_t cell, visited, first_visit;
    double coverage;
    uint8_t success;
    int64_t context;
} Info;

int64_t state_size(void) { return sizeof(State); }
int64_t obs_size(void) { return sizeof(Obs); }
int64_t info_size(void) { return sizeof(Info); }

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

static inline int randint(State *s, int n) {
    uint64_t z = s->rng += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (int)(((z ^ (z >> 31)) >> 32) * n >> 32);
}

static inline void visit(State *s) {
    int index = s->row * SIZE + s->col;
    if (s->first_visits[index] < 0) {
        s->first_visits[index] = s->t;
        s->visited++;
    }
}

static void free_cell(State *s, int *row, int *col) {
    do {
        *col = randint(s, SIZE);
        *row = randint(s, SIZE);
    } while (s->grid[*row][*col] != EMPTY || (*row == s->row && *col == s->col));
}

static void reset(State *s) {
    int row, col;
    for (row = 0; row < SIZE; row++)
        for (col = 0; col < SIZE; col++)
            s->grid[row][col] = row % HALF && col % HALF ? EMPTY : WALL;
    memset(s->first_visits, -1, sizeof s->first_visits);
    s->walkable = WALKABLE;
    s->carrying = EMPTY;
    s->stale = 1;
    s->mission = s->success = s->visited = s->t = s->done = 0;
    s->context = s->row = s->col = -1;
    for (int first = 1; first < SIZE - 1; first += HALF) {
        s->grid[first + randint(s, HALF - 1)][HALF] = EMPTY;
        s->grid[HALF][first + randint(s, HALF - 1)] = EMPTY;
    }
    free_cell(s, &row, &col);
    s->row = row, s->col = col;
    s->direction = randint(s, 4);
    free_cell(s, &row, &col);
    s->grid[row][col] = GOAL;
    visit(s);
}

static inline void look(State *s) {
    uint8_t(*image)[VIEW][3] = s->image;
    const int edges[4] = {SIZE - 1 - s->col, SIZE - 1 - s->row, s->col, s->row};
    const int down = (s->direction == 1) - (s->direction == 3), east = (s->direction == 0) - (s->direction == 2);
    const int ahead = edges[s->direction], right = min(SIDE, edges[(s->direction + 1) & 3]);
    const int left = min(SIDE, edges[(s->direction + 3) & 3]);
    unsigned inside = ((1u << (left + right + 1)) - 1) << (SIDE - left), lit = 1 << SIDE;
    for (int distance = 0; distance < VIEW; distance++) {
        if (distance > ahead) inside = 0;
        const int row = s->row + min(distance, ahead) * down, col = s->col + min(distance, ahead) * east;
        unsigned opaque = 0, codes[VIEW];
        for (int i = 0; i < VIEW; i++) {
            const int side = min(max(i - SIDE, -left), right);
            codes[i] = s->grid[row + side * east][col - side * down];
            opaque |= codes[i] >> 15 << i;
        }
        const unsigned clear = inside & ~opaque;
        unsigned source = lit & clear, run = clear;
        source |= ((clear + source) ^ clear) & clear;
        for (int shift = 1; shift < VIEW; shift *= 2) {
            source |= run & source >> shift;
            run &= run >> shift;
        }
        const unsigned beyond = (source | source << 1 | source >> 1) & FULL;
        lit |= beyond;
        for (int i = 0; i < VIEW; i++) {
            const unsigned code = (inside >> i & 1 ? codes[i] : WALL) & -(lit >> i & 1);
            uint8_t *cell = image[i][VIEW - 1 - distance];
            cell[0] = code & 15;
            cell[1] = code >> 4 & 7;
            cell[2] = code >> 7 & 3;
        }
        lit = beyond;
    }
    uint8_t *own = image[SIDE][VIEW - 1];
    own[0] = s->carrying & 15;
    own[1] = s->carrying >> 4 & 7;
    own[2] = s->carrying >> 7 & 3;
}

void step(int64_t n, State *states, const int64_t *actions, int64_t max_steps, Obs *obs, double *rewards, uint8_t *terminated,
          uint8_t *truncated, Info *infos) {
    for (int64_t i = 0; i < n; i++) {
        State *s = &states[i];
        rewards[i] = 0.0;
        terminated[i] = truncated[i] = 0;
        if (s->done) {
            reset(s);
        } else {
            s->t++;
            s->success = 0;
            if (actions[i] == 0) {
                s->direction = (s->direction + 3) & 3;
                s->stale = 1;
            } else if (actions[i] == 1) {
                s->direction = (s->direction + 1) & 3;
                s->stale = 1;
            } else if (actions[i] == 2) {
                int row = s->row + (s->direction == 1) - (s->direction == 3);
                int col = s->col + (s->direction == 0) - (s->direction == 2);
                int code = s->grid[row][col];
                if (!(code & OPAQUE)) {
                    s->row = row, s->col = col;
                    s->stale = 1;
                    visit(s);
                    if ((code & 15) == KIND_GOAL) {
                        s->success = terminated[i] = 1;
                        rewards[i] = 1.0 - 0.9 * ((double)s->t / (double)max_steps);
                    }
                }
            }
            truncated[i] = s->t >= max_steps;
            s->done = terminated[i] || truncated[i];
        }
#ifdef KEEP_VIEW
        if (s->stale)
#endif
            look(s);
        s->stale = 0;
        memcpy(obs[i].image, s->image, sizeof s->image);
        obs[i].direction = s->direction;
        obs[i].mission = s->mission;
        infos[i].cell = s->row * SIZE + s->col;
        infos[i].visited = s->visited;
        infos[i].first_visit = s->first_visits[infos[i].cell];
        infos[i].coverage = (double)s->visited / WALKABLE;
        infos[i].success = s->success;
        infos[i].context = s->context;
    }
}
