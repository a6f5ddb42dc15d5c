"""Exported files at work, through onnxruntime: no file of this room imports torch."""
