"""Environment wrappers, single and vectorised."""
