"""What a pair is: recipes, sampling parameters from them, and the recipes and the demo pair that ship."""
