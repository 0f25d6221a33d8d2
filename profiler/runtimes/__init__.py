"""The runtimes that networks can run on."""
