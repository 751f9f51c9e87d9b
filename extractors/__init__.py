"""Asks PostHog: requests as values, and the rooms that send, read and list."""
