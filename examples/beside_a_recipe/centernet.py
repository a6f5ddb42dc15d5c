"""A detector kind of its own, without anchors: CenterNet, "Objects as Points" (Zhou, Wang and Kraehenbuehl
2019)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

import densedet
from densedet.core.arguments import NonNegativeFloat, PositiveInt, Probability
from densedet.core.boxes import clip
from densedet.core.distributed import shared_normalizer
from densedet.core.layers import ConvNormAct
from densedet.core.placement import blank_outside
from densedet.core.types import Batch, Detections, Fate, Trace


@densedet.register("detector", "centernet")
class CenterNet(nn.Module):
    """Objects as peaks of one heat map per class at the finest level, with the box's size and the centre's
    offset beside it.

    Works on any backbone (and neck): all levels are brought to ``width`` channels and added up at the finest
    stride R, the paper's 4 with the default backbone. Losses: "heatmap" (equation 1), "size" and "offset"
    (L1), each divided by the objects of the batch.

    Args:
        backbone: (wired) the backbone.
        neck: (wired) the neck; null: the backbone's maps are used.
        num_classes: (wired) C.
        in_channels: (wired) channels of each map.
        in_strides: (wired) stride of each map, in input pixels.
        width: channels of the merged map.
        size_weight: factor on the loss of the sizes (section 3).
        offset_weight: factor on the loss of the offsets (section 3).
        min_overlap: boxes shifted within the heat map's Gaussians still have this IoU with their object (as
            CornerNet, section 3.1).
        top_k: largest number of detections in an image.
        score: detections with a lower score are left out.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        num_classes: int,
        in_channels: tuple[int, ...],
        in_strides: tuple[int, ...],
        width: PositiveInt = 64,
        size_weight: NonNegativeFloat = 0.1,
        offset_weight: NonNegativeFloat = 1.0,
        min_overlap: Probability = 0.7,
        top_k: PositiveInt = 100,
        score: Probability = 0.01,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.stride = backbone, neck, in_strides[0]
        self.size_weight, self.offset_weight, self.min_overlap = size_weight, offset_weight, min_overlap
        self.top_k, self.score = top_k, score
        self.merge = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in in_channels)
        self.smooth = ConvNormAct(width, width)
        self.heatmap, self.size, self.offset = (branch(width, outputs) for outputs in (num_classes, 2, 2))
        nn.init.constant_(self.heatmap[-1].bias, -2.19)  # scores start at 0.1, as focal loss wants
        for name, value in (("mean", backbone.mean), ("std", backbone.std)):
            self.register_buffer(name, torch.tensor(value).view(1, -1, 1, 1) * 255, persistent=False)

    def run_network(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Heat-map logits (B,C,h,w), sizes in cells (B,2,h,w) and offsets in cells (B,2,h,w), float32; 2 is
        x, y."""
        images = blank_outside((batch.images.float() - self.mean) / self.std, batch.sizes_hw)
        levels = self.backbone(images)
        if self.neck is not None:
            levels = self.neck(levels)
        height_width = levels[0].shape[-2:]
        maps = [convolution(level) for convolution, level in zip(self.merge, levels)]
        merged = self.smooth(torch.stack([functional.interpolate(m, height_width) for m in maps]).sum(dim=0))
        return self.heatmap(merged).float(), self.size(merged).float(), self.offset(merged).float()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses(batch)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits, size, offset = self.run_network(batch)
        boxes, counted = batch.boxes / self.stride, batch.valid & ~batch.ignore  # (B,G,4) in cells, (B,G)
        centers, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        cells = torch.minimum(
            centers.floor(), centers.new_tensor([logits.shape[3] - 1, logits.shape[2] - 1])
        ).clamp(min=0)
        bumps = gaussians(cells, sides, logits.shape[-2:], self.min_overlap) * counted[..., None, None]
        labels = batch.labels.clamp(min=0)[..., None, None].expand_as(bumps)
        target = torch.zeros_like(logits).scatter_reduce(1, labels, bumps, "amax")
        counts = self._ignored(boxes, batch.valid & batch.ignore, logits.shape[-2:]) | (target == 1)
        scale = 1 / shared_normalizer(counted.sum().float())
        where = (cells[..., 1] * logits.shape[3] + cells[..., 0]).long()  # (B,G), the cell's place in a map
        size_loss = (at(size, where) - sides).abs().sum(dim=-1) * counted
        offset_loss = (at(offset, where) - (centers - cells)).abs().sum(dim=-1) * counted
        return {
            "heatmap": (focal(logits, target) * counts).sum() * scale,
            "size": size_loss.sum() * scale * self.size_weight,
            "offset": offset_loss.sum() * scale * self.offset_weight,
        }

    @staticmethod
    def _ignored(boxes: Tensor, ignored: Tensor, height_width: tuple[int, int]) -> Tensor:
        """bool (B,1,h,w): False for cells whose middle lies in an ignored object. boxes (B,G,4) in cells."""
        y, x = ((torch.arange(n, device=boxes.device) + 0.5) for n in height_width)
        left, top, right, bottom = (side[..., None] for side in boxes.unbind(-1))
        inside = ((y >= top) & (y < bottom))[..., :, None] & ((x >= left) & (x < right))[..., None, :]
        return ~(inside & ignored[..., None, None]).any(dim=1, keepdim=True)

    def _boxes(self, cells: Tensor, width: int, size: Tensor, offset: Tensor, batch: Batch) -> Tensor:
        """Boxes (B,G,4) in pixels, of the cells (B,G) of a map of this width."""
        centers = torch.stack([cells % width, cells // width], dim=-1) + at(offset, cells)
        half = at(size, cells).clamp(min=0) / 2
        return clip(torch.cat([centers - half, centers + half], dim=-1) * self.stride, batch.valid_hw)

    @torch.no_grad()
    def predict(self, batch: Batch, trace: Trace | None = None) -> list[Detections]:
        logits, size, offset = self.run_network(batch)
        every = logits.sigmoid()
        peaks = every == functional.max_pool2d(every, 3, stride=1, padding=1)
        heat = every * peaks  # all that this detector needs for NMS
        scores, index = heat.flatten(1).topk(min(self.top_k, heat[0].numel()))
        cell, labels = index % heat[0, 0].numel(), index // heat[0, 0].numel()
        boxes = self._boxes(cell, heat.shape[3], size, offset, batch)
        keep = (scores >= self.score) & (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
        none = torch.full_like(labels, -1)
        if trace is not None:
            cells = torch.arange(heat[0, 0].numel(), device=heat.device).expand(len(heat), -1)
            trace["boxes"] = self._boxes(cells, heat.shape[3], size, offset, batch)
            trace["scores"] = every.flatten(2).transpose(1, 2)  # (B,h*w,C): the cells are the anchors
            fate = torch.where(peaks, Fate.CUT_BY_TOP_K, Fate.REMOVED_BY_NMS).flatten(2).transpose(1, 2)
            fate = fate.masked_fill(trace["scores"] < self.score, Fate.LOW_SCORE).to(torch.int8)
            for one, c, label, k in zip(fate, cell, labels, keep):
                one[c[k], label[k]] = Fate.KEPT
            trace["fate"] = list(fate)
        return [
            Detections(b[k], s[k], c[k], n[k]) for b, s, c, n, k in zip(boxes, scores, labels, none, keep)
        ]


def branch(width: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution, ReLU and a 1x1 convolution (the paper's section 4)."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, outputs, 1)
    )


def at(maps: Tensor, cells: Tensor) -> Tensor:
    """Values of maps (B,n,h,w) at cells (B,G), int64 y * w + x -> (B,G,n). G may be 0."""
    return maps.flatten(2).transpose(1, 2).gather(1, cells[..., None].expand(-1, -1, maps.shape[1]))


def gaussians(cells: Tensor, sides: Tensor, height_width: tuple[int, int], min_overlap: float) -> Tensor:
    """(B,G,h,w): 1 in each object's cell (B,G,2), falling off with a deviation of a third of `radius`. sides:
    (B,G,2) in cells."""
    y, x = (torch.arange(n, device=cells.device, dtype=cells.dtype) for n in height_width)
    squares = (y - cells[..., 1:])[..., :, None] ** 2 + (x - cells[..., :1])[..., None, :] ** 2
    deviation = (2 * radius(sides, min_overlap).floor() + 1) / 6
    return (-squares / (2 * deviation[..., None, None] ** 2)).exp()


def radius(sides: Tensor, min_overlap: float) -> Tensor:
    """(...,2) -> (...): how far both corners of a box may move with an IoU of at least ``min_overlap`` left,
    whichever way they move (Law and Deng 2018, section 3.1): the smallest r of one corner each way, both
    inwards, both outwards."""
    total, area = sides.sum(dim=-1), sides.prod(dim=-1)
    # (w-r)(h-r) / (2wh - (w-r)(h-r)) = o;  (w-2r)(h-2r) / wh = o;  wh / ((w+2r)(h+2r)) = o; each a quadratic
    # a r^2 + b r + c = 0.
    shifted = smaller_root(1, -total, area * (1 - min_overlap) / (1 + min_overlap))
    inwards = smaller_root(4, -2 * total, area * (1 - min_overlap))
    outwards = (-2 * total + (4 * total**2 + 16 * area * (1 / max(min_overlap, 1e-6) - 1)).sqrt()) / 8
    return torch.minimum(torch.minimum(shifted, inwards), outwards).clamp(min=0)


def smaller_root(a: float, b: Tensor, c: Tensor) -> Tensor:
    return (-b - (b**2 - 4 * a * c).clamp(min=0).sqrt()) / (2 * a)


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """(B,C,h,w) each -> the same: equation 1 with alpha 2 and beta 4; target is 1 in the objects' cells and
    below 1 elsewhere."""
    score = logits.sigmoid()
    positive = -((1 - score) ** 2) * functional.logsigmoid(logits)
    negative = -((1 - target) ** 4) * score**2 * functional.logsigmoid(-logits)
    return torch.where(target == 1, positive, negative)
