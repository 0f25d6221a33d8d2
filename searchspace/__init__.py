"""Search spaces, accuracy sources, limits and the searches themselves."""
