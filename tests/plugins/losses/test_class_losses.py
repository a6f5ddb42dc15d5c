"""What every class loss must do: labels -1, large logits, empties, scores; tests/plugins/test_gradients.py
has the gradients."""

import pytest
import torch

from densedet.plugins.losses.bce import BCELoss
from densedet.plugins.losses.focal import FocalLoss
from densedet.plugins.losses.hard_negative import HardNegativeLoss
from densedet.plugins.losses.quality_focal import QualityFocalLoss
from densedet.plugins.losses.softmax import SoftmaxLoss
from densedet.plugins.losses.varifocal import VarifocalLoss

C = 3
EACH = [
    FocalLoss(num_classes=C),
    FocalLoss(num_classes=C, alpha=None, gamma=0.5),
    BCELoss(num_classes=C),
    QualityFocalLoss(num_classes=C),
    QualityFocalLoss(num_classes=C, beta=1.0),
    VarifocalLoss(num_classes=C),
    VarifocalLoss(num_classes=C, gamma=0.0),
    SoftmaxLoss(num_classes=C),
    SoftmaxLoss(num_classes=C, background="last"),
    HardNegativeLoss(num_classes=C, min_negatives=2),
    HardNegativeLoss(num_classes=C, background="last"),
]
every = pytest.mark.parametrize("loss", EACH, ids=lambda loss: type(loss).__name__)


def channels(loss):
    return C + (loss.background_channel != "none")


def example(loss, dtype=torch.float32, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 8, channels(loss), generator=generator, dtype=dtype) * scale
    labels = torch.tensor([[0, 1, 2, C, C, C, -1, C], [C, -1, C, C, C, C, C, -1]])
    quality = torch.rand(2, 8, generator=generator, dtype=dtype) * (labels >= 0) * (labels < C)
    return logits.requires_grad_(), labels, quality


@every
def test_ignored_anchors_are_exactly_0_without_gradient(loss):
    logits, labels, quality = example(loss)
    result = loss(logits, labels, quality)
    assert result.shape == (2, 8)
    assert (result[labels == -1] == 0).all()
    assert (result[(labels >= 0) & (labels < C)] > 0).all()
    result.sum().backward()
    assert (logits.grad[labels == -1] == 0).all()
    assert (logits.grad[(labels >= 0) & (labels < C)] != 0).all()


@every
def test_all_ignored_is_0_and_connected(loss):
    logits, labels, quality = example(loss)
    total = loss(logits, torch.full_like(labels, -1), quality * 0).sum()
    total.backward()
    assert total.item() == 0
    assert not logits.grad.any()


@every
@pytest.mark.parametrize("value", [-100.0, 100.0])
def test_large_logits_stay_finite(loss, value):
    logits, labels, quality = example(loss, scale=0.0)
    for channel in range(channels(loss)):
        logits.grad = None
        shifted = logits + torch.eye(channels(loss))[channel] * value
        result = loss(shifted, labels, quality)
        result.sum().backward()
        assert result.isfinite().all()
        assert logits.grad.isfinite().all()


@every
def test_evaluates_without_gradient(loss):
    logits, labels, quality = example(loss)
    with torch.no_grad():
        without = loss(logits, labels, quality)
    assert torch.equal(without, loss(logits, labels, quality))


@every
@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_no_images_or_no_anchors(loss, shape):
    logits = torch.randn(*shape, channels(loss), requires_grad=True)
    result = loss(logits, torch.zeros(shape, dtype=torch.int64), torch.zeros(shape))
    result.sum().backward()
    assert result.shape == shape


@every
def test_batch_axis_is_independent(loss):
    logits, labels, quality = example(loss)
    both = loss(logits, labels, quality)
    torch.testing.assert_close(both[1:], loss(logits[1:], labels[1:], quality[1:]))


@every
def test_training_raises_the_score_of_the_true_class(loss):
    logits, labels, _ = example(loss)
    quality = ((labels >= 0) & (labels < C)).float()
    (gradient,) = torch.autograd.grad(loss(logits, labels, quality).sum(), logits)
    before, after = loss.scores(logits), loss.scores(logits - 0.1 * gradient)
    assert before.shape == (2, 8, C)
    assert ((before >= 0) & (before <= 1)).all()
    for anchor in range(3):
        assert after[0, anchor, labels[0, anchor]] > before[0, anchor, labels[0, anchor]]


@every
def test_follows_the_logits_device(loss):
    """A tensor made without saying where would lie on the default device, here one that does not mix with the
    logits'."""
    logits, labels, quality = (
        torch.randn(2, 4, channels(loss)),
        torch.zeros(2, 4, dtype=torch.int64),
        torch.zeros(2, 4),
    )
    with torch.device("meta"):
        assert loss(logits, labels, quality).device.type == "cpu"
