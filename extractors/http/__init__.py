"""The only way to the network: the client, its limits, and what answers are decoded into."""
