"""Frozen networks: architectures, weights, and what they make of an image."""
