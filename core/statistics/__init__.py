"""Statistics of comparisons: metrics of resampled images, intervals over seeds and images, verdicts."""
