"""What the larger subcommands of ``dpsr`` do, apart from their options."""
