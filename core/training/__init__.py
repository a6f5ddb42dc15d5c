"""The run and its loop, checkpoints, evaluation, prediction, planning."""
