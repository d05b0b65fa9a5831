"""Records, as a notebook reads them: `from repro import records; records.load("rank_collapse", p=0.8)`."""

from repro.pipeline.store.records import Record, Result, load, records

__all__ = ["Record", "Result", "load", "records"]
