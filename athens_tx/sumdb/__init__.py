"""The checksum database: passed on to clients, remembered, and asked by ourselves with proof."""
