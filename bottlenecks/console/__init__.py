"""What commands share: their errors, their lines, their progress."""
