"""Bottleneck datamodules."""
