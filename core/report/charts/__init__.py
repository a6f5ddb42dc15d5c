"""Charts of comparisons as SVG for a page and as PNG, drawn by matplotlib without a window."""
