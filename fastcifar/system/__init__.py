"""The machine under fastcifar: processors, memory, devices, clocks, and files that are written whole or not at all.
Nothing here knows of images or runs.
"""
