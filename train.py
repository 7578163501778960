"""Train bottleneck units at a split point: python train.py model=resnet50 split=layer3 lambda=0.01."""

from bottlenecks.commands.train import main, train

__all__ = ["main", "train"]

if __name__ == "__main__":
    main()
