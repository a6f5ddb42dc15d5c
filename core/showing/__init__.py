"""The pages of `densedet show`: a detector's parts, data, anchors, matches, score maps and mistakes."""
