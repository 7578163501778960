"""Export a trained ladder for devices and servers: python export.py model=resnet50 split=layer3."""

from bottlenecks.commands.export import export, main

__all__ = ["export", "main"]

if __name__ == "__main__":
    main()
