import pytest

from densedet.core.errors import PartError
from densedet.plugins.backbones._images import IMAGENET, image_statistics


def test_colour_images_get_imagenets():
    assert image_statistics(3, None, None) == IMAGENET


def test_grey_images_get_the_average():
    # (0.485 + 0.456 + 0.406) / 3 = 0.449; (0.229 + 0.224 + 0.225) / 3 = 0.226
    assert image_statistics(1, None, None) == ((0.449,), (0.226,))


def test_one_value_serves_all_channels():
    assert image_statistics(3, (0.5,), (0.25,)) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_wrong_number_is_refused():
    with pytest.raises(PartError, match="std has 3 values, but the images have 1 channel: give one"):
        image_statistics(1, None, (0.1, 0.2, 0.3))
    with pytest.raises(PartError, match="mean has 0 values"):
        image_statistics(3, (), None)
