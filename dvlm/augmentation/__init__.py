"""Augmentation: each op draws its parameters without pixels; the pipeline renders once.

Pipeline.build -> Pipeline.draw (annotations -> Drawn) -> render (image, Drawn -> image)
"""
