"""The simulated events, and what can be asked about them."""
