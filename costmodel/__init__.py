"""What is learned: the latency of any network on one device, with an honest interval."""
