"""Training of the head on cached features of the frozen towers."""
