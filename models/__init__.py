"""A diffusers checkpoint -> torch modules in token space: what it holds, where its weights lie, what it computes."""
