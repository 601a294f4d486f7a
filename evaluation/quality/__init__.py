"""How close each method comes to the large model, and whether its pictures show their captions. Start at `evaluate`."""
