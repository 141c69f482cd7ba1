"""Recommender environments: simulated users whose wish for novelty is hidden, and catalogues, drawn or read from files."""
