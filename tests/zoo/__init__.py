"""Architectures as torch modules with random weights: what the import of models is tried on.

Every function returns a module and example inputs, so that `tests.zoo.resnet:resnet18` is a MODEL
on the command line.
"""
