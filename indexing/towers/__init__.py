"""Servables of towers that were trained elsewhere: any query model, and the vectors of its items."""

from dpsr.indexing.towers.export import export_towers

__all__ = ["export_towers"]
