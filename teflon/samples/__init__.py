"""Material for trials: models by name, pictures as inputs, boxes of detectors, digits."""
