"""The C++ tokenizer: its Python face and its TensorFlow op."""
