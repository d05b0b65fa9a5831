"""What is trained: one folder a kind of network, with its settings (`__init__.py`, light)."""
