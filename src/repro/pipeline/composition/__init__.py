"""`conf/` and a command line, put together by Hydra: light, so that `--help` is there at once."""
