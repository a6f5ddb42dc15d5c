"""Every built-in part, by the contract that it keeps; for mypy, which refuses a part that breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from densedet.core import contracts
    from densedet.plugins.anchors import default_boxes, octave, points
    from densedet.plugins.backbones import (
        convnet,
        efficientnet_lite,
        extractor,
        mobilenet,
        resnet,
        timm_features,
        vgg,
    )
    from densedet.plugins.coders import delta, distribution, ltrb
    from densedet.plugins.detectors import dense
    from densedet.plugins.evaluators import coco
    from densedet.plugins.evaluators import voc as voc_evaluator
    from densedet.plugins.heads import fcos, retinanet, ssd, ssdlite
    from densedet.plugins.launchers import local, ray, slurm
    from densedet.plugins.losses import (
        bce,
        ciou,
        dfl,
        diou,
        focal,
        giou,
        hard_negative,
        l1,
        quality_focal,
        smooth_l1,
        softmax,
        varifocal,
    )
    from densedet.plugins.losses import iou as iou_loss
    from densedet.plugins.matchers import atss, iou, task_aligned
    from densedet.plugins.matchers import fcos as fcos_matcher
    from densedet.plugins.necks import fpn, identity, pan, ssd_extras
    from densedet.plugins.optim import muon, optimizers, schedules
    from densedet.plugins.postprocess import nms, soft_nms
    from densedet.plugins.resize import exact, letterbox, short_side
    from densedet.plugins.samplers import class_balanced, repeat_factor, shuffle
    from densedet.plugins.sources import coco as coco_source
    from densedet.plugins.sources import cvat, digits, flatbuffers_db, labelme, roboflow, sqlite, voc, yolo
    from densedet.plugins.transforms import (
        affine,
        copy_paste,
        crop,
        flip,
        mixup,
        mosaic,
        noise,
        photometric,
        photometric_distort,
        random_affine,
        sanitize,
    )
    from densedet.plugins.weight_maps import torchvision_fpn, torchvision_ssd

    # fmt: off
    detector: list[type[contracts.Detector]] = [dense.DenseDetector]
    backbone: list[type[contracts.Backbone]] = [
        convnet.ConvNetBackbone, resnet.ResNet18, resnet.ResNet34, resnet.ResNet50,
        mobilenet.MobileNetV3Large, mobilenet.MobileNetV3Small, vgg.VGG16SSDBackbone,
        efficientnet_lite.EfficientNetLite0, extractor.TorchvisionBackbone, timm_features.TimmBackbone,
    ]
    neck: list[type[contracts.Neck]] = [
        identity.IdentityNeck, ssd_extras.SSDExtrasNeck, fpn.FPNNeck, pan.PANNeck,
    ]
    anchors: list[type[contracts.Anchors]] = [
        default_boxes.DefaultBoxAnchors, octave.OctaveAnchors, points.PointAnchors,
    ]
    head: list[type[contracts.Head]] = [
        ssd.SSDHead, ssdlite.SSDLiteHead, retinanet.RetinaNetHead, fcos.FCOSHead,
    ]
    matcher: list[type[contracts.Matcher]] = [
        iou.IoUMatcher, atss.ATSSMatcher, task_aligned.TaskAlignedMatcher, fcos_matcher.FCOSMatcher,
    ]
    coder: list[type[contracts.Coder]] = [
        delta.DeltaCoder, ltrb.LTRBCoder, distribution.DistributionCoder,
    ]
    class_loss: list[type[contracts.ClassLoss]] = [
        focal.FocalLoss, hard_negative.HardNegativeLoss, quality_focal.QualityFocalLoss,
        varifocal.VarifocalLoss, bce.BCELoss, softmax.SoftmaxLoss,
    ]
    box_loss: list[type[contracts.BoxLoss]] = [
        l1.L1Loss, smooth_l1.SmoothL1Loss, iou_loss.IoULoss, giou.GIoULoss, diou.DIoULoss, ciou.CIoULoss,
        dfl.DistributionFocalLoss,
    ]
    postprocess: list[type[contracts.Postprocess]] = [nms.NMSPostprocess, soft_nms.SoftNMSPostprocess]
    source: list[type[contracts.Source]] = [
        coco_source.CocoSource, digits.DigitsSource, flatbuffers_db.FlatBuffersSource,
        roboflow.RoboflowSource, sqlite.SQLiteSource, voc.VOCSource, yolo.YOLOSource,
        labelme.LabelMeSource, cvat.CVATSource,
    ]
    resize: list[type[contracts.Resize]] = [
        exact.ExactResize, letterbox.LetterboxResize, short_side.ShortSideResize,
    ]
    sampler: list[type[contracts.Sampler]] = [
        shuffle.ShuffleSampler, repeat_factor.RepeatFactorSampler, class_balanced.ClassBalancedSampler,
    ]
    transform: list[type[contracts.Transform]] = [
        noise.GaussianNoise, photometric_distort.RandomPhotometricDistort, random_affine.RandomAffine,
        random_affine.RandomRotation, sanitize.SanitizeBoundingBoxes,
    ]
    batch_transform: list[type[contracts.BatchTransform]] = [
        flip.BatchFlip, crop.BatchCrop, affine.BatchAffine, mosaic.BatchMosaic,
        photometric.BatchPhotometric, mixup.BatchMixUp, copy_paste.BatchCopyPaste,
    ]
    optimizer: list[contracts.Optimizer] = [optimizers.adamw, muon.muon, optimizers.sgd]
    schedule: list[type[contracts.Schedule]] = [
        schedules.CosineSchedule, schedules.StepSchedule, schedules.ConstantSchedule,
    ]
    launcher: list[type[contracts.Launcher]] = [
        local.LocalLauncher, slurm.SlurmLauncher, ray.RayLauncher,
    ]
    evaluator: list[type[contracts.Evaluator]] = [coco.CocoEvaluator, voc_evaluator.VocEvaluator]
    weight_map: list[type[contracts.WeightMap]] = [
        torchvision_fpn.TorchvisionRetinaNetMap, torchvision_fpn.TorchvisionFCOSMap,
        torchvision_ssd.TorchvisionSSDMap, torchvision_ssd.TorchvisionSSDLiteMap,
    ]
