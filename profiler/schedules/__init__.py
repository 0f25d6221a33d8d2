"""How an operator's loops are laid out for a target."""
