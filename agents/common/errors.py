class UsageError(ValueError):
    """A request that cannot be met, worded for the person who made it: the command line prints it without a traceback."""
