"""Built-in transforms; see COMPONENTS for the list. torchvision's go by their own names, ours in lower
case."""

_TORCHVISION = {
    "ClampBoundingBoxes": "cut boxes to the image",
    "CenterCrop": "the middle of the image",
    "ColorJitter": "random brightness, contrast, saturation and hue",
    "ElasticTransform": "random smooth warp",
    "GaussianBlur": "blur of a random strength",
    "Grayscale": "colours to grey, as many channels as before only with num_output_channels",
    "Pad": "a border",
    "RandomAdjustSharpness": "sharpen or soften at random",
    "RandomAutocontrast": "stretch the contrast at random",
    "RandomChannelPermutation": "swap colour channels",
    "RandomCrop": "a random window of one size",
    "RandomEqualize": "equalise the histogram at random",
    "RandomErasing": "overwrite a random rectangle; boxes stay",
    "RandomGrayscale": "drop the colour at random",
    "RandomHorizontalFlip": "mirror left and right at random",
    "RandomInvert": "negative at random",
    "RandomIoUCrop": "SSD's crop: a window that keeps objects of a random IoU",
    "RandomPerspective": "random tilt",
    "RandomPosterize": "fewer grey levels at random",
    "RandomResize": "a random short side",
    "RandomResizedCrop": "a random window, resized",
    "RandomShortestSize": "short side from a list at random",
    "RandomSolarize": "invert bright pixels at random",
    "RandomVerticalFlip": "mirror top and bottom at random",
    "RandomZoomOut": "SSD's zoom-out: the image on a larger canvas",
    "Resize": "one size",
    "ScaleJitter": "large-scale jitter",
}
_TYPED = {
    "GaussianNoise": ("noise", "noise on a float image"),
    "RandomAffine": ("random_affine", "turn, shift, scale and shear at random"),
    "RandomPhotometricDistort": (
        "photometric_distort",
        "SSD's brightness, contrast, saturation, hue and channel swap",
    ),
    "RandomRotation": ("random_affine", "turn at random"),
    "SanitizeBoundingBoxes": ("sanitize", "drop boxes that became too small"),
}
"""Those of torchvision's that have a class here, with arguments that a recipe can write: name -> (module,
summary)."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    *(
        ("transform", name, f"torchvision.transforms.v2:{name}", f"torchvision: {what}")
        for name, what in _TORCHVISION.items()
    ),
    *(
        ("transform", name, f"densedet.plugins.transforms.{module}:{name}", f"torchvision: {what}")
        for name, (module, what) in _TYPED.items()
    ),
    (
        "batch_transform",
        "flip",
        "densedet.plugins.transforms.flip:BatchFlip",
        "mirror images of a batch left and right at random",
    ),
    (
        "batch_transform",
        "crop",
        "densedet.plugins.transforms.crop:BatchCrop",
        "zoom, shift and stretch images of a batch at random",
    ),
    (
        "batch_transform",
        "affine",
        "densedet.plugins.transforms.affine:BatchAffine",
        "turn, slant, zoom and shift images of a batch at random",
    ),
    (
        "batch_transform",
        "mosaic",
        "densedet.plugins.transforms.mosaic:BatchMosaic",
        "four images of the batch in one",
    ),
    (
        "batch_transform",
        "mixup",
        "densedet.plugins.transforms.mixup:BatchMixUp",
        "two images of the batch laid over one another",
    ),
    (
        "batch_transform",
        "copy_paste",
        "densedet.plugins.transforms.copy_paste:BatchCopyPaste",
        "objects of another image of the batch pasted in",
    ),
    (
        "batch_transform",
        "photometric",
        "densedet.plugins.transforms.photometric:BatchPhotometric",
        "random brightness, contrast and saturation",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
