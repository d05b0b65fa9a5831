def figures(record): return {}
