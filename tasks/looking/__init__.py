"""The toy's benchmarks whose answers must be looked up in many places: reading, finding, long answers."""
