"""`make gpu-check`: what only a GPU can show, in one command of minutes, without anything to download.

`check` is the command, `evidence` runs the parts and writes what they find, `setting` holds sizes and the model that
they share; `exactness`, `toys` and `costs` are the parts. Needs torch, transformers and numpy, and Pillow and
torchvision for the parts on toy checkpoints.
"""
