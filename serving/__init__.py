"""Model server with TensorFlow Serving's interfaces, and its client."""
