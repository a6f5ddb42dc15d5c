"""Which images are in which training batch."""

import pytest

from densedet.core.data.sampling import BatchSampler
from densedet.core.errors import DataError, PartError, UsageError
from densedet.plugins.samplers.shuffle import ShuffleSampler


def sampler(length, batch_size, seed=0, **processes):
    return BatchSampler(ShuffleSampler(source=range(length), seed=seed), batch_size=batch_size, **processes)


def indices(batches, epoch, start=0):
    return [key.indices for key in batches.keys(epoch, start)]


def test_order_is_a_permutation_of_seed_and_epoch():
    batches = sampler(10, 3, seed=1)
    assert batches.batches_per_epoch == 3
    first = indices(batches, 0)
    assert [len(batch) for batch in first] == [3, 3, 3]
    assert len({i for batch in first for i in batch}) == 9
    assert first == indices(sampler(10, 3, seed=1), 0)
    assert first != indices(batches, 1)
    assert first != indices(sampler(10, 3, seed=2), 0)


def test_order_resumes_within_an_epoch():
    batches = sampler(10, 3)
    assert indices(batches, 4, 2) == indices(batches, 4)[2:]
    assert [key.number for key in batches.keys(4, 2)] == [2]


def test_the_position_moves_from_epoch_to_epoch():
    batches = sampler(10, 3)
    assert [batches.advance() for _ in range(4)] == [False, False, True, False]
    assert (batches.epoch, batches.batch) == (1, 1)
    stream = iter(batches)
    assert [next(stream)[:2] for _ in range(3)] == [(1, 1), (1, 2), (2, 0)]
    assert (batches.epoch, batches.batch) == (1, 1), "asking ahead does not move it"


def test_a_position_past_the_end_of_its_epoch_is_the_next_epoch():
    """A run with batches of 3 goes on with batches of 5: an epoch has 2 of them, so there is no batch 2."""
    batches = sampler(10, 5)
    batches.seek(4, 2)
    assert (batches.epoch, batches.batch) == (5, 0)
    assert next(iter(batches))[:2] == (5, 0)


def test_small_set_goes_round():
    batches = sampler(3, 8)
    assert batches.batches_per_epoch == 1
    (batch,) = indices(batches, 0)
    assert len(batch) == 8
    assert sorted(batch[:3]) == [0, 1, 2]
    assert batch[3:6] == batch[:3]


def test_processes_share_what_one_would_see():
    whole = indices(sampler(14, 7), 2)
    parts = [list(sampler(14, 7, rank=rank, world=3).keys(2)) for rank in range(3)]
    assert [len(part) for part in parts] == [len(whole)] * 3
    for step, keys in zip(whole, zip(*parts)):
        assert [key.indices for key in keys] == [step] * 3
        assert [key.share for key in keys] == [step[0::3], step[1::3], step[2::3]]
        assert [len(key.share) for key in keys] == [3, 2, 2], "7 images on 3 processes"
        assert [list(key.rows) for key in keys] == [[0, 3, 6], [1, 4], [2, 5]]


def test_nothing_to_do_is_refused():
    with pytest.raises(DataError, match="no images"):
        sampler(0, 2)
    with pytest.raises(UsageError, match="train.batch_size=3 .* 4 processes"):
        sampler(10, 3, world=4)


def test_an_epoch_of_another_length_is_refused():
    class Uneven:
        def __len__(self):
            return 4

        def __call__(self, epoch):
            return range(4 + epoch)

    batches = BatchSampler(Uneven(), batch_size=2)
    assert len(indices(batches, 0)) == 2
    with pytest.raises(PartError, match="gave 5 images in epoch 1, but its length is 4"):
        indices(batches, 1)


def test_a_position_outside_the_source_is_refused():
    class Beyond:
        def __len__(self):
            return 4

        def __call__(self, epoch):
            return range(1, 5)

    with pytest.raises(PartError, match="Beyond gave position 4 in epoch 0, but the source has 4 images"):
        indices(BatchSampler(Beyond(), batch_size=2, images=4), 0)
    assert len(indices(BatchSampler(Beyond(), batch_size=2, images=5), 0)) == 2
