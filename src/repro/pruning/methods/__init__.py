"""Ways to prune a layer, one interface (`method.py`): at once, under constant penalties, under growing ones."""
