"""Ladders that go from hand to hand: through a folder, or through the Hugging Face hub."""
