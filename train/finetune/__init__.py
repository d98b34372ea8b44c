"""Fine-tuning a trained head on the corrections of a review."""
