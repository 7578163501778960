"""Symbols to bytes and back: tables, entropy coder, frames. No torch, so that a device can have it."""
