"""Hardware-in-the-loop latency profiling, cost modelling and search: the application."""
