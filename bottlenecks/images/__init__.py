"""Image files to network inputs: reading, resizing, orientation, augmentation; boxes and masks go along."""
