"""The picture of a session."""

from explore_gym.envs.recommender.catalogue import RELEVANT


def draw_session(canvas, state, catalogue, days):
    """The session of the last slate from left to right: topics by row (known ones tinted), items shown grey, clicks green.

    Above the topics is the mood at each slate, explore orange and focus blue; below them the session's satisfaction after
    each slate. The last row has a bar at the day of each session, as high as its satisfaction.
    """
    topics, steps = len(state.known), len(state.drawn_choices)
    margin, bottom = 9, topics + 1
    width = margin + max(steps, 24)
    canvas.size(width, bottom + 6)
    mood = state.drawn_intents[state.drawn_steps - 1] if state.drawn_steps else state.intent
    canvas.text(0.2, 0.1, "explore" if mood == 1 else "focus", size=0.6)
    for topic in range(topics):
        row = topic + 1
        tints = ((222, 236, 250), (210, 228, 247)) if state.known[topic] else ((244, 244, 242), (255, 255, 255))
        canvas.rect(margin, row, steps, 1, tints[topic % 2])
        star = "*" if state.affinity[topic] >= RELEVANT else " "
        color = (20, 100, 40) if state.affinity[topic] >= RELEVANT else (120, 120, 120)
        canvas.text(0.2, row + 0.15, (star + catalogue.topic_names[topic])[:9], color, 0.6)
    for step in range(state.drawn_steps):
        color, char = ((238, 150, 50), "e") if state.drawn_intents[step] == 1 else ((90, 130, 200), "f")
        canvas.rect(margin + step + 0.05, 0.15, 0.9, 0.7, color, char)
        choice = state.drawn_choices[step]
        items = state.drawn_slates[step].tolist()
        for position, item in enumerate(items):
            row = int(catalogue.topic[item]) + 1
            if item >= 0 and position != choice:
                canvas.rect(margin + step + 0.2, row + 0.2, 0.6, 0.6, (170, 170, 170), "o")
        if choice >= 0:
            row = int(catalogue.topic[items[choice]]) + 1
            canvas.rect(margin + step + 0.1, row + 0.1, 0.8, 0.8, (50, 160, 80), "#")
        clicks = sum(other >= 0 for other in state.drawn_choices[: step + 1]) / (step + 1)
        height = 1.8 * clicks
        canvas.rect(margin + step + 0.2, bottom + 2.0 - height, 0.6, max(height, 0.05), (50, 160, 80), "|")
    canvas.text(0.2, bottom + 0.8, "satisfied", size=0.6)
    canvas.line(margin, bottom + 2.05, margin + steps, bottom + 2.05, (120, 120, 120), 0.05)
    canvas.text(0.2, bottom + 3.3, "visits", size=0.6)
    scale = (width - margin) / days
    for day, satisfaction in zip(state.visits.tolist(), state.visit_satisfaction.tolist()):
        if day >= 0:
            height = 0.1 + 1.6 * satisfaction
            canvas.rect(margin + day * scale, bottom + 4.2 - height, max(scale * 0.8, 0.3), height, (90, 130, 200), "v")
    canvas.line(margin, bottom + 4.25, width, bottom + 4.25, (120, 120, 120), 0.05)
    caption = f"day {state.day} of {days}  clicks {state.clicks}  discovered {state.discovered}"
    caption += "  churned" if state.churn else ""
    canvas.text(0.2, bottom + 5.1, caption, size=0.6)
