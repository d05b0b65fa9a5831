"""On the regularization properties of structured dropout (Pal, Lane, Vidal, Haeffele 2020)."""
