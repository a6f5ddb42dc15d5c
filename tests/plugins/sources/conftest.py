"""A table that no format writes easily."""

import random

import pytest

from densedet.core.annotations.builder import TableBuilder


@pytest.fixture
def odd_table():
    """Makes a table of random boxes, in images and classes whose names are hard to write down.

    The function gets a seed, the images' names, {category id: name}, and whether every second image id is a
    text.
    """

    def made(seed, names, classes, texts=False):
        draw = random.Random(seed)
        builder = TableBuilder("memory")
        for category_id, name in classes.items():
            builder.add_class(category_id, name)
        numbers = draw.sample(range(10_000), len(names))
        for number, name in zip(numbers, names):
            image_id = str(number) if texts and number % 2 else number
            width, height = draw.randint(1, 300), draw.randint(1, 300)
            assert builder.add_image(image_id, name, width, height)
            for _ in range(draw.choice([0, 0, 1, 5])):
                x, y = (
                    draw.choice([draw.uniform(-3, width - 0.5), float(draw.randrange(width))]),
                    draw.uniform(0, height - 0.5),
                )
                box = [
                    x,
                    y,
                    draw.choice([draw.uniform(3.1, width + 9), 4.0, 1e-3 + max(-x, 0)]),
                    draw.uniform(1e-3, height),
                ]
                area = draw.choice([float("nan"), draw.uniform(0, 99), 0.0])
                flags = {"crowd": draw.random() < 0.3, "ignore": draw.random() < 0.3}
                builder.add_box(
                    image_id,
                    draw.choice(list(classes)),
                    box,
                    area=area,
                    id=draw.randint(-(1 << 63), (1 << 63) - 1),
                    **flags,
                )
        return builder.finish()

    return made
