"""Studies: the runs that `densedet compare` trains or takes, and how they are found, placed and reused."""
