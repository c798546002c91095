"""What only a real GPU can show: the driver, CUDA and the training project, through the real daemon.

    python -m pytest tests/gpu

About two minutes. Nothing of the GPU's settings is changed.
"""
