"""Search algorithms: exhaustive and evolutionary."""
