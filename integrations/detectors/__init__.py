"""Detectors propose boxes; what they think the boxes hold is not asked."""
