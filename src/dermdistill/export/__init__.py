"""A run as ONNX and other targets, held against PyTorch by a parity gate."""
