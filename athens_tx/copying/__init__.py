"""C{athens-tx copy}: a whole store from one storage into another."""
