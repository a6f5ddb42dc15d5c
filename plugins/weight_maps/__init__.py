"""Built-in weight maps; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "weight_map",
        "torchvision_retinanet",
        "densedet.plugins.weight_maps.torchvision_fpn:TorchvisionRetinaNetMap",
        "torchvision's retinanet_resnet50_fpn and retinanet_resnet50_fpn_v2",
    ),
    (
        "weight_map",
        "torchvision_fcos",
        "densedet.plugins.weight_maps.torchvision_fpn:TorchvisionFCOSMap",
        "torchvision's fcos_resnet50_fpn",
    ),
    (
        "weight_map",
        "torchvision_ssd",
        "densedet.plugins.weight_maps.torchvision_ssd:TorchvisionSSDMap",
        "torchvision's ssd300_vgg16",
    ),
    (
        "weight_map",
        "torchvision_ssdlite",
        "densedet.plugins.weight_maps.torchvision_ssd:TorchvisionSSDLiteMap",
        "torchvision's ssdlite320_mobilenet_v3_large",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
