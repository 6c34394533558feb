"""Many models on many servers behind one address (DPSR, section 5.2.2: the proxy module and its model servers)."""
