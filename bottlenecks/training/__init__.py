"""Training: the loss, the Lightning module, what is resumed, and where a backbone comes from."""
