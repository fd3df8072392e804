"""`libteflon.so`: the TFLite external delegate, and the half of it that is Python."""
