"""From a configuration to its record: one run or many, here or on workers, whole or in parts."""
