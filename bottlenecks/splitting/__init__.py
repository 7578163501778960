"""A network as a graph, cut at a named node."""
