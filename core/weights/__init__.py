"""State dicts: published weights, and what fits."""
