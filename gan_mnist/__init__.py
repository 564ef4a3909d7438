"""gan_mnist: a GAN course lab on MindSpore. Importing it does not import MindSpore."""

__version__ = "0.1.0"
