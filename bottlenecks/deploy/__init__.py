"""The field: export a trained ladder, and run its two sides without torch (`export` alone needs it)."""
