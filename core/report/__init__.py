"""From run folders to tables, charts, pictures and HTML."""
