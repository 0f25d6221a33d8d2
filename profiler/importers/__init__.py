"""Networks that people bring, as Latloop's operators."""
