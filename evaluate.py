"""Evaluate trained units and their alternatives on real bytes: python evaluate.py model=resnet50 split=layer3."""

from bottlenecks.commands.evaluate import evaluate, evaluate_splits, main

__all__ = ["evaluate", "evaluate_splits", "main"]

if __name__ == "__main__":
    main()
