"""Built-in sources; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    ("source", "coco", "densedet.plugins.sources.coco:Coco", "COCO JSON (one file or several joined) and a folder of images"),
    (
        "source",
        "digits",
        "densedet.plugins.sources.digits:Digits",
        "scenes of real handwritten digits, composed on the fly; nothing to download",
    ),
    (
        "source",
        "flatbuffers",
        "densedet.plugins.sources.flatbuffers_db:FlatBuffers",
        "densedet's .db file: opens in milliseconds whatever its size",
    ),
    ("source", "roboflow", "densedet.plugins.sources.roboflow:Roboflow", "an export of Roboflow's, recognised by its layout"),
    ("source", "sqlite", "densedet.plugins.sources.sqlite:Sqlite", "densedet's .sqlite file: to look into and change with SQL"),
    ("source", "voc", "densedet.plugins.sources.voc:Voc", "Pascal VOC: an XML file an image, splits under ImageSets"),
    ("source", "yolo", "densedet.plugins.sources.yolo:Yolo", "YOLO: data.yaml and a text file an image"),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
