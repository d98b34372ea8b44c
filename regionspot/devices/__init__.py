"""What differs where the model computes on another device than the CPU."""
