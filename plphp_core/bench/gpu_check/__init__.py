"""`make gpu-check`: what only a GPU can show, in one command of minutes, without anything to download.

`gpu_check_app` is the command, `gpu_evidence` runs the parts and writes what they find, `gpu_setting` holds sizes and
the model that they share; `gpu_exactness`, `gpu_answers` and `gpu_costs` are the parts. Needs torch, transformers and
numpy, and Pillow and torchvision for the parts on toy checkpoints.
"""
