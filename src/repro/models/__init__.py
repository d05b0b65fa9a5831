"""Deep networks: residual networks whose last layer is linear, as the theory wants it."""
