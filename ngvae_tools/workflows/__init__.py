"""What a command does, as one library call."""
