"""The outside world: detectors, label formats, FiftyOne. Imports `regionspot` alone."""
