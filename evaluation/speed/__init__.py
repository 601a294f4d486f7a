"""How fast each method is, beside the large model in fewer steps. Start at `bench`."""
