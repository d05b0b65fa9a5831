"""The store: what runs leave behind, found again by what was asked."""

from repro.pipeline.store.parts import Piece
from repro.pipeline.store.records import Record, Result
from repro.pipeline.store.run import Run

__all__ = ["Piece", "Record", "Result", "Run"]
