"""The TensorFlow op library and its kernels."""
