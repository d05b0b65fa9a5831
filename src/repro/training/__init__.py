"""How a network is trained: one folder a way, with its settings (`__init__.py`, light) and its loop."""
