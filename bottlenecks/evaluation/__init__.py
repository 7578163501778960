"""Evaluation: operating points measured on real bytes, and the curve they make."""
