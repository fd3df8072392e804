"""Models as TFLite files: read and written."""
