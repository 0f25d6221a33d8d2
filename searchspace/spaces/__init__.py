"""The built-in search spaces: layers, their lowering and their torch modules."""
