"""What a person wants done, from beginning to end."""
