"""A vision-language model of 0.1 M weights that says which digit it sees; it is trained in half a minute.

It has the form of LLaVA: a vision tower, a projector and a language model, made from transformers' config classes. A
pretrained one is used in the same way.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = ("<pad>", "<image>", "<end>", "what", "digit", "is", "this", "?", "it", "a", "written", ".", *DIGITS)
IMAGE, END = WORDS.index("<image>"), WORDS.index("<end>")
SIDE, PATCH = 32, 8
NUM_TOKENS = (SIDE // PATCH) ** 2  # that an image becomes
QUESTION = "what digit is this ?"
LONGEST = 7  # words of an answer


def tokenize(text: str) -> list[int]:
    """Turn words into their numbers."""
    return [WORDS.index(word) for word in text.split()]


def detokenize(ids: Tensor) -> str:
    """Turn numbers (T,) into words, up to the end."""
    words = [WORDS[index] for index in ids.tolist()]
    return " ".join(words[: words.index("<end>")] if "<end>" in words else words)


def prompt(text: str = QUESTION) -> Tensor:
    """Return the numbers of an image's places and of what is asked about it, (T,)."""
    return torch.tensor([IMAGE] * NUM_TOKENS + tokenize(text))


def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's handwritten digits as images (N, 3, 32, 32) and labels (N,)."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1) / 8 - 1
    return functional.interpolate(images, (SIDE, SIDE), mode="bilinear"), torch.tensor(data.target)


def build(width: int = 48) -> LlavaForConditionalGeneration:
    """Make the model with random weights."""
    same = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 4}
    vision = CLIPVisionConfig(num_hidden_layers=3, image_size=SIDE, patch_size=PATCH, projection_dim=width, **same)
    special = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": 0}
    text = LlamaConfig(vocab_size=len(WORDS), num_hidden_layers=2, max_position_embeddings=64, **special, **same)
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        image_seq_length=NUM_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    return LlavaForConditionalGeneration(config).eval()


def train(images: Tensor, labels: Tensor, epochs: int = 12, seed: int = 0) -> LlavaForConditionalGeneration:
    """Train a model to say which digit an image (N, 3, 32, 32) shows."""
    torch.manual_seed(seed)
    model = build().train()
    asked = prompt()
    answers = torch.tensor([tokenize(f"it is a written {digit} . <end>") for digit in DIGITS])
    ids = torch.cat([asked.expand(len(DIGITS), -1), answers], 1)
    wanted = ids.masked_fill(torch.arange(ids.shape[1]) < len(asked), -100)  # what is asked is not learned
    optimiser = torch.optim.AdamW(model.parameters())
    order = [part for _ in range(epochs) for part in torch.randperm(len(images)).split(50)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=len(order))
    for some in order:
        classes = labels[some]
        loss = model(input_ids=ids[classes], pixel_values=images[some], labels=wanted[classes]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()
