"""Built engines against the models that they came from. Nothing in production imports this."""
