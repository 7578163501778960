"""What of a vision-language model is cut, and what the server does with what comes out.

    image -> vision tower | unit | rest of the tower -> projector -> embeddings -> language model -> text

The device runs the head of the tower and the unit's encoder; the rest stays on the server. This is for models of
transformers that are made as LLaVA is; for another one, `ImageSide` is what has to be written anew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ImageSide(nn.Module):
    """A model's images to the embeddings that stand for them in the language model.

    Args:
        model: such as `LlavaForConditionalGeneration`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_tower, self.multi_modal_projector = model.model.vision_tower, model.model.multi_modal_projector
        self.layer = model.config.vision_feature_layer
        self.first = 1 if model.config.vision_feature_select_strategy == "default" else 0  # without the class token

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (N, 3, H, W) into embeddings (N, T, D)."""
        hidden = self.vision_tower(images, output_hidden_states=True).hidden_states[self.layer]
        return self.multi_modal_projector(hidden[:, self.first :])


class NextToken(nn.Module):
    """A model's images to the logits of the token that follows a prompt: what a unit may be fitted to instead.

    Args:
        model: such as `LlavaForConditionalGeneration`.
        prompt: token numbers (L,), the image's places among them.
    """

    def __init__(self, model: Any, prompt: Tensor) -> None:
        super().__init__()
        self.image_side, self.prompt = ImageSide(model), Prompt(model, prompt)
        self.language_model, self.lm_head = model.model.language_model, model.lm_head

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (N, 3, H, W) into logits (N, V)."""
        embeddings = self.prompt(self.image_side(images))
        return self.lm_head(self.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, -1])


class Prompt(nn.Module):
    """Puts images' embeddings into the places that a prompt has for them.

    Args:
        model: such as `LlavaForConditionalGeneration`.
        prompt: token numbers (L,), T of them of a place for the image, in a row.
    """

    before: Tensor
    after: Tensor

    def __init__(self, model: Any, prompt: Tensor) -> None:
        super().__init__()
        places = (prompt == model.config.image_token_id).nonzero().flatten().tolist()
        self.words = model.get_input_embeddings()
        self.register_buffer("before", prompt[: places[0]])
        self.register_buffer("after", prompt[places[-1] + 1 :])

    def forward(self, embeddings: Tensor) -> Tensor:
        """Turn embeddings (N, T, D) into the language model's input (N, L, D)."""
        before, after = (self.words(ids).expand(embeddings.shape[0], -1, -1) for ids in (self.before, self.after))
        return torch.cat([before, embeddings, after], 1)


@torch.no_grad()
def say(model: Any, prompt: Tensor, embeddings: Tensor, max_new_tokens: int) -> Tensor:
    """Let the language model go on after a prompt about images, given as embeddings (N, T, D).

    Returns:
        Token numbers (N, max_new_tokens), or fewer where all answers have ended.
    """
    inputs = Prompt(model, prompt)(embeddings)
    mask = torch.ones(inputs.shape[:2], dtype=torch.long, device=inputs.device)
    return model.generate(inputs_embeds=inputs, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False)
