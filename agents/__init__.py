"""Reference agents: one runnable file per algorithm."""
