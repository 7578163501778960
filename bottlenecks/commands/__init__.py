"""The commands: each refuses what its configuration tells, then imports torch and does its work."""
