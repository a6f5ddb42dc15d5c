import torch

from densedet.core.seeding import generator_of, seed_of


def test_seed_depends_on_every_part_and_on_nothing_else():
    assert (
        seed_of(0, "sample", 1, 23) == 4001294244711802526
    )  # a constant: the same on every machine and in every process
    seeds = {
        seed_of(0, "sample", 1, 23),
        seed_of(0, "sample", 12, 3),
        seed_of(0, "sample", 123),
        seed_of("0", "sample", 1, 23),
    }
    assert len(seeds) == 4


def test_generator_is_reproducible():
    assert torch.equal(
        torch.rand(3, generator=generator_of(5, "x")), torch.rand(3, generator=generator_of(5, "x"))
    )
