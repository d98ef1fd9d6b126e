"""`make bench`: what a decoded token costs under three ways of decoding, beside its roofline, the least it can cost."""
