"""LeJeune, Javadi, Baraniuk (2021), on the duality of adaptive dropout and penalties."""
