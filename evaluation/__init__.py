"""How fast and how close the methods are, and the settings that make the best of both. Nothing in production imports
this."""
