"""Codecs that need no training: what a user would otherwise reach for, one a file."""
