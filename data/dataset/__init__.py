"""The dataset directory: what lies on disk, and how it is read and checked."""
