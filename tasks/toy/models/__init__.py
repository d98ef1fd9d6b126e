"""Toy models, one module per family; each has a TOY (see tasks/toy/toy.py)."""
