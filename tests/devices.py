"""Which tests need a device that not every machine has."""

import pytest
import torch

GPUS = torch.cuda.is_available()


def a_gpu(test):
    """Mark a test that needs a GPU of CUDA: `pytest -m gpu` runs these alone, and elsewhere they are
    skipped."""
    skip = pytest.mark.skipif(not GPUS, reason="this machine has no GPU of CUDA, on which this test runs")
    return pytest.mark.gpu(skip(test))
