"""What the commands do, once their configuration has been read and not refused."""
