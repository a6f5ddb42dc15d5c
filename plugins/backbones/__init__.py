"""Built-in backbones; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "backbone",
        "convnet",
        "densedet.plugins.backbones.convnet:ConvNetBackbone",
        "plain residual network of 3x3 convolutions, any width and depth",
    ),
    ("backbone", "resnet18", "densedet.plugins.backbones.resnet:ResNet18", "ResNet-18: returns C2..C5"),
    ("backbone", "resnet34", "densedet.plugins.backbones.resnet:ResNet34", "ResNet-34: returns C2..C5"),
    ("backbone", "resnet50", "densedet.plugins.backbones.resnet:ResNet50", "ResNet-50: returns C2..C5"),
    (
        "backbone",
        "mobilenet_v3_large",
        "densedet.plugins.backbones.mobilenet:MobileNetV3Large",
        "MobileNetV3 large: a map per stride, or SSDlite's two",
    ),
    (
        "backbone",
        "mobilenet_v3_small",
        "densedet.plugins.backbones.mobilenet:MobileNetV3Small",
        "MobileNetV3 small: a map per stride, or SSDlite's two",
    ),
    (
        "backbone",
        "efficientnet_lite0",
        "densedet.plugins.backbones.efficientnet_lite:EfficientNetLite0",
        "EfficientNet-Lite0: ImageNet weights by the extra pretrained",
    ),
    (
        "backbone",
        "vgg16_ssd",
        "densedet.plugins.backbones.vgg:VGG16SSDBackbone",
        "VGG-16 as SSD uses it: returns conv4_3 and fc7",
    ),
    (
        "backbone",
        "torchvision",
        "densedet.plugins.backbones.extractor:TorchvisionBackbone",
        "any classification network of torchvision: returns any of its nodes",
    ),
    (
        "backbone",
        "timm",
        "densedet.plugins.backbones.timm_features:TimmBackbone",
        "any network of timm that gives feature maps (extra timm)",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
