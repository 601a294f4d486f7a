"""The search for the sampling parameters that are best in a given time. Start at `tune`."""
