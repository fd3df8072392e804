"""ONNX models, in QDQ form or with quantised operators; float operations are kept for a runtime."""
