"""The simulated addresses, keys and limits."""
