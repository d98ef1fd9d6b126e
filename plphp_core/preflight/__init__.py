"""Before hours of GPU time: would a run work? One module per thing that can be wrong."""
