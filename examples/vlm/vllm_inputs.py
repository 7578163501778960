"""Hand embeddings over to vLLM, which runs the language model: see "Embedding Inputs" in its documentation."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from torch import Tensor


def offline(prompt: str, embeddings: Tensor) -> dict[str, Any]:
    """Make what `LLM.generate` takes, of an `LLM(model, enable_mm_embeds=True)`.

    Args:
        prompt: with the model's place for an image, such as `<image>`, once for each.
        embeddings: of the images, (number of images, T, D) with D the language model's width.
    """
    return {"prompt": prompt, "multi_modal_data": {"image": embeddings.detach().cpu()}}


def online(text: str, embeddings: Tensor) -> list[dict[str, Any]]:
    """Make the messages that `vllm serve --enable-mm-embeds` takes in its chat API, one image's embeddings (T, D)."""
    buffer = io.BytesIO()
    torch.save(embeddings.detach().cpu(), buffer)
    image = {"type": "image_embeds", "image_embeds": base64.b64encode(buffer.getvalue()).decode()}
    return [{"role": "user", "content": [{"type": "text", "text": text}, image]}]
