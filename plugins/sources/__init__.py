"""Built-in sources; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "source",
        "coco",
        "densedet.plugins.sources.coco:CocoSource",
        "COCO JSON (one file or several joined) and a folder of images",
    ),
    (
        "source",
        "cvat",
        "densedet.plugins.sources.cvat:CVATSource",
        "CVAT's XML for images or video, and a folder of images",
    ),
    (
        "source",
        "digits",
        "densedet.plugins.sources.digits:DigitsSource",
        "scenes of real handwritten digits, composed on the fly; nothing to download",
    ),
    (
        "source",
        "flatbuffers",
        "densedet.plugins.sources.flatbuffers_db:FlatBuffersSource",
        "densedet's .db file: opens in milliseconds whatever its size",
    ),
    (
        "source",
        "labelme",
        "densedet.plugins.sources.labelme:LabelMeSource",
        "LabelMe: a JSON file an image, beside it",
    ),
    (
        "source",
        "roboflow",
        "densedet.plugins.sources.roboflow:RoboflowSource",
        "an export of Roboflow's, recognised by its layout",
    ),
    (
        "source",
        "sqlite",
        "densedet.plugins.sources.sqlite:SQLiteSource",
        "densedet's .sqlite file: to look into and change with SQL",
    ),
    (
        "source",
        "voc",
        "densedet.plugins.sources.voc:VOCSource",
        "Pascal VOC: an XML file an image, splits under ImageSets",
    ),
    (
        "source",
        "yolo",
        "densedet.plugins.sources.yolo:YOLOSource",
        "YOLO: data.yaml and a text file an image",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
