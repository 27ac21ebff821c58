"""When and where each photo was taken, and which photos are one burst."""

__all__: list[str] = []
