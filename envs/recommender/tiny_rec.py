"""TinyRec: the recommender with three topics and four kinds of users, so small that its oracle is known exactly.

Observation: float32 (28 + what is revealed,) in [0, 1], as in NoveltyRec.
Action:      Discrete(6): items; 0 and 1 are of topic 0, 2 and 3 of topic 1, 4 and 5 of topic 2. MultiDiscrete (slate,) of
             items if slate > 1.
Reward:      1 for a click, otherwise 0.
Terminates:  when the user, after leaving, isn't back within days (6), or after sessions (3) sessions.  Truncates: never.
Info:        as in NoveltyRec.
Users:       each episode draws one of four, with equal probability: all like topic 0 and know it; half of them would like topic
             1, the others topic 2, and of each half one rarely seeks novelty (0.1) and one does often (0.9).
Choice:      as in NoveltyRec, with a fatigue of 0.6 that is gone at the next session.
Source:      this suite's.

`optimal_value()` is the value of an oracle that knows the user, mood and fatigue, by dynamic programming.
"""

from explore_gym.envs.bandits.checks import check_integer
from explore_gym.envs.engine import vectorize
from explore_gym.envs.recommender.novelty_rec import NoveltyRec
from explore_gym.envs.recommender.references import UserPlan

TASTES = ((0.8, 0.9, 0.1), (0.8, 0.1, 0.9))
SEEKING = (0.1, 0.9)
USERS = [dict(affinity=list(taste), liked=[0], novelty_seeking=seeking) for taste in TASTES for seeking in SEEKING]


class TinyRec(NoveltyRec):
    """A recommender world of which everything is known.

    Args:
        slate: items that are shown at a time, 1 or 2.
        session_steps: slates of the longest session, 1 to 4.
        sessions: of an episode, 1 to 5.
        days: after which a user isn't waited for, 1 to 10.
        reveal: hidden quantities to observe, as in NoveltyRec.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    def __init__(self, slate=1, session_steps=4, sessions=3, days=6, reveal=(), render_mode=None, max_episode_steps=None):
        check_integer("slate", slate, 1, 2)
        check_integer("session_steps", session_steps, 1, 4)
        check_integer("sessions", sessions, 1, 5)
        check_integer("days", days, 1, 10)
        super().__init__(
            slate=slate,
            topics=3,
            items_per_topic=2,
            dimension=4,
            users=USERS,
            fatigue=0.6,
            recovery=1.0,
            session_steps=session_steps,
            sessions=sessions,
            days=days,
            reveal=reveal,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def optimal_value(self):
        """Expected clicks of an episode of the oracle, on average over the users."""
        return sum(UserPlan(self, user).value for user in range(len(USERS))) / len(USERS)

    def random_value(self):
        """Expected clicks of an episode of uniformly random actions."""
        return sum(UserPlan(self, user).random_value() for user in range(len(USERS))) / len(USERS)


TinyRecVector = vectorize(TinyRec)
