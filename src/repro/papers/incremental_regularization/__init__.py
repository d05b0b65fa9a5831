"""Wang, Zhang, Wang, Hu (2019), on pruning by penalties that grow."""
