"""What a configuration says, read and refused before anything heavy is imported; no torch."""
