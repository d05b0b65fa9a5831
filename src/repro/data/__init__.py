"""What is learned from: one folder a source, with its settings (`__init__.py`, light) and its reader (`load.py`)."""
