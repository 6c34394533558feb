"""A generated shop: catalogue, users and click log with known structure (docs/demo_shop.md)."""
