/* The default MetaBandit (5 Gaussian stationary arms, blocks of fixed length) as a plain C loop over a batch, next-step
   autoreset: what a compiler makes of hand-written code for the same records, random stream, observations and metrics.
   The records have the layout of the environment's state and info dtypes. */

#include <math.h>
#include <stdint.h>

#define ARMS 5

typedef struct {
    uint64_t rng;
    double means[ARMS], best_mean;
    int32_t best_arm, pull, episode, action;
    double reward, regret, cumulative_regret;
    uint8_t episode_end, task_end;
    int32_t t;
    uint8_t done;
} State;

typedef struct {
    double means[ARMS];
    int64_t best_arm;
    uint8_t optimal;
    double regret, cumulative_regret;
    uint8_t episode_end, task_end;
} Info;

int64_t state_size(void) { return sizeof(State); }
int64_t info_size(void) { return sizeof(Info); }

static inline double uniform(State *s) {
    uint64_t z = s->rng += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static inline double normal(State *s) {
    double radius = sqrt(-2.0 * log(1.0 - uniform(s)));
    return radius * cos(2.0 * M_PI * uniform(s));
}

static void reset(State *s) {
    s->best_arm = 0;
    for (int arm = 0; arm < ARMS; arm++) {
        s->means[arm] = normal(s);
        if (s->means[arm] > s->means[s->best_arm]) s->best_arm = arm;
    }
    s->best_mean = s->means[s->best_arm];
    s->pull = s->episode = s->t = 0;
    s->action = -1;
    s->reward = s->regret = s->cumulative_regret = 0.0;
    s->episode_end = s->task_end = s->done = 0;
}

void step(int64_t n, State *states, const int64_t *actions, int64_t recurrence, int64_t pulls_per_episode, float *obs,
          double *rewards, uint8_t *terminated, uint8_t *truncated, Info *infos) {
    for (int64_t i = 0; i < n; i++) {
        State *s = &states[i];
        float *o = obs + i * (ARMS + 3);
        Info *info = &infos[i];
        if (s->done) {
            reset(s);
            rewards[i] = 0.0;
            terminated[i] = 0;
        } else {
            s->t++;
            s->action = (int32_t)actions[i];
            rewards[i] = s->reward = s->means[s->action] + normal(s);
            s->regret = s->best_mean - s->means[s->action];
            s->cumulative_regret += s->regret;
            s->episode_end = ++s->pull == pulls_per_episode;
            if (s->episode_end) {
                s->pull = 0;
                s->episode++;
            }
            s->task_end = s->episode == recurrence;
            terminated[i] = s->done = s->task_end;
        }
        truncated[i] = 0;
        for (int arm = 0; arm < ARMS; arm++) {
            o[arm] = arm == s->action;
            info->means[arm] = s->means[arm];
        }
        o[ARMS] = (float)s->reward;
        o[ARMS + 1] = s->pull == 0;
        o[ARMS + 2] = (float)((double)s->t / (double)(recurrence * pulls_per_episode));
        info->best_arm = s->best_arm;
        info->optimal = s->action >= 0 && s->regret == 0.0;
        info->regret = s->regret;
        info->cumulative_regret = s->cumulative_regret;
        info->episode_end = s->episode_end;
        info->task_end = s->task_end;
    }
}
