"""Flickr30k, COCO2017 and DetailCaps: CIDEr and METEOR."""
