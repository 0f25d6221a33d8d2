"""Published measurements that ship with Latloop; each folder names its source and licence."""
