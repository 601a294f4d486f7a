"""Built engines on disk: what each is, where it lies, and how that changes by whole steps."""
