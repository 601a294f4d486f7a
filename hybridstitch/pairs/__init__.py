"""What a pair is: recipes, plans from a recipe's defaults, and the recipes and the demo pair that ship."""
