"""`make bench`: what a decoded token costs under three ways of decoding, beside the least it can cost."""
