"""Export, and both sides without torch."""
