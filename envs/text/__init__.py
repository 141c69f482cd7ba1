"""Text tasks with verifiable rewards, at the level of strings and at the level of tokens."""
