"""The paper's experiments, one module each: `run` computes a record's tables, `figures` draws them."""
