"""Where the last prompt token looks: readings over benchmarks (Figures 1 and 2), and one sample in full (Figure 3)."""
