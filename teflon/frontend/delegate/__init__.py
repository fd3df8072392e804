"""The TFLite external delegate: `libteflon.so`, and its part in Python."""
