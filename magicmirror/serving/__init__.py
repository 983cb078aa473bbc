"""Jobs on one resident model: the engine protocol, its two implementations, and the folders of results."""
