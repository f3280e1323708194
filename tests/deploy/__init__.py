"""What crewd ships, against the real parts that read it."""
