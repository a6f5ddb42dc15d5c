"""From a trained detector to files that run without it: ONNX, int8, torch.export."""
