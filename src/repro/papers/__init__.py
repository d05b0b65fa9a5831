"""One folder a paper: what its experiments share, and one folder an experiment."""
