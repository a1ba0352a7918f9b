"""Where versions are kept: one file for each kind of storage, chosen by C{StorageType}."""
