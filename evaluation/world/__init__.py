"""The demo pair's world: its scenes, their captions and their true pictures."""
