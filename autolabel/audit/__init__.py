"""What is likely wrong in labels, and which of them to review first."""
