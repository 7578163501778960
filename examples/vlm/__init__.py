"""A unit in the vision tower of a language model that sees."""
