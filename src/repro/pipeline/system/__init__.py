"""What the operating system gives and takes: errors, locks, signals, threads, processes, a terminal."""
