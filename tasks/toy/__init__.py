"""The toy world: drawn scenes, data sets that mirror the seven benchmarks, and a small trained model."""
