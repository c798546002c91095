"""TrainForge in a job and from Python. Names are loaded on first use."""

__version__ = "0.1.0"
