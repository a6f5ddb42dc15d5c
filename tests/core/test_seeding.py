import random

import numpy as np
import torch

from densedet.core.seeding import drawing_from, generator_of, seed_of


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


def test_global_draws_depend_on_the_purpose_and_move_nothing():
    def draw():
        return random.random(), np.random.rand(), float(torch.rand(()))

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    drawn = []
    for purpose in (1, 1, 2):
        with drawing_from(0, "x", purpose):
            drawn.append(draw())
            inside = np.random.get_state()[1].tolist()
            with drawing_from(0, "y"):
                draw()
            assert np.random.get_state()[1].tolist() == inside
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
