"""Names of the model classes in ``model.json``."""

TWO_TOWER = "two_tower"
