"""The figures: each is a spec with the functions that draw it, in a module named after what it shows."""
