"""Before hours of GPU time: does everything that a run needs really work? One module per thing that can be wrong."""
