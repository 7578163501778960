"""Trained rates: their files, where these lie, and the ladder of all rates of a split."""
