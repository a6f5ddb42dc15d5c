"""The annotation table, and what makes, narrows and converts it."""
