"""What a detector found on a set of images beside the truth, and what can be told from it: plain arrays."""
