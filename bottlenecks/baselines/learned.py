"""The input image through CompressAI's own trained image codecs."""

from __future__ import annotations

import hashlib
import warnings
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bottlenecks.baselines.base import Calibration, ImageBaseline, Pixels
from bottlenecks.coding.bitstream import BitstreamError, Limits, pack, unpack
from bottlenecks.console.terminal import say
from bottlenecks.errors import UsageError, reason
from bottlenecks.images.preprocessing import Preprocessing
from bottlenecks.splitting.features import Features
from bottlenecks.splitting.macs import count_macs
from bottlenecks.tensor_files import read_weights

MULTIPLE = 64  # of both sides, which the networks ask for
LIMITS = Limits(max_payload_bytes=2**24, max_positions=2**24)
LENGTH_BYTES = 2  # of the hyper-latent's string


class LearnedImage(ImageBaseline):
    """A network of CompressAI's zoo, trained for the mean squared error; red, green and blue, grey as three of them.

        pixels (H, W, 3) -> edges repeated to multiples of 64 -> g_a, h_a -> strings -> frame

    The frame is that of the units: CompressAI's decoder crashes on damaged strings, so they are checked before. Encoder
    and decoder have to compute alike to the last bit for all but the factorized model.

    Args:
        preprocessing: how images became the network's input.
        architecture: one of the zoo's, such as `bmshj2018-factorized`.
        quality: 1 to 8.
        path: of the weights.
    """

    def __init__(self, preprocessing: Preprocessing, architecture: str, quality: int, path: Path) -> None:
        super().__init__(preprocessing)
        self.name, self.setting = _codec_name(architecture), f"quality={quality}"
        self.architecture, self.path = architecture, path
        self.usual_size = preprocessing.input_shape and preprocessing.input_shape[1:]  # is not sent
        # The zoo's file names hold a part of the contents' hash.
        self.fingerprint = hashlib.sha256(f"{architecture} {path.name}".encode()).digest()[:2]
        self._network: nn.Module | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the network away: another process loads it for itself."""
        return {**self.__dict__, "_network": None}

    @property
    def network(self) -> Any:
        """The network, loaded when it is first needed."""
        if self._network is None:
            self._network = _load(self.architecture, self.path)
        return self._network

    @torch.no_grad()
    def write(self, pixels: Pixels) -> bytes:
        """Code pixels (H, W) or (H, W, 3)."""
        height, width = pixels.shape[:2]
        colour = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
        x = torch.from_numpy(colour.astype(np.float32)).permute(2, 0, 1)[None] / 255
        coded = self.network.compress(F.pad(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate"))
        y, *z = [strings[0] for strings in coded["strings"]]
        payload = b"".join(len(string).to_bytes(LENGTH_BYTES, "big") + string for string in z) + y
        return pack(payload, self.fingerprint, None if (height, width) == self.usual_size else (height, width))

    @torch.no_grad()
    def read(self, stream: bytes) -> Pixels:
        """Decode pixels (H, W, 3)."""
        frame = unpack(stream, LIMITS)
        size = frame.shape or self.usual_size
        if frame.fingerprint != self.fingerprint or size is None or len(size) != 2:
            raise BitstreamError(f"this stream is not of {self.name}, {self.setting}")
        height, width = size
        strings = self._take_apart(frame.payload)
        steps = MULTIPLE if len(strings) == 2 else MULTIPLE // 4  # from a latent's element to the next, in pixels
        shape = [-(-side // MULTIPLE) * MULTIPLE // steps for side in (height, width)]
        x_hat = self.network.decompress(strings, shape)["x_hat"][0, :, :height, :width]
        return np.rint(x_hat.permute(1, 2, 0).numpy() * 255).astype(np.uint8)

    def encoder_macs(self, batch: Features) -> int:
        """Count those of the analysis and of the entropy model, for one image (1, 3, H, W)."""
        x = self._padded(*batch)
        return count_macs(self._analyse, x) + self._entropy_model_macs(x)

    def decoder_macs(self, batch: Features) -> int:
        """Count those of the synthesis and of the entropy model."""
        x, net = self._padded(*batch), self.network
        return count_macs(lambda one: net.g_s(net.g_a(one)), x) - count_macs(net.g_a, x) + self._entropy_model_macs(x)

    def state_bytes(self) -> int:
        """Count those of the network's tensors, tables included."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.network.state_dict().values())

    def _take_apart(self, payload: bytes) -> list[list[bytes]]:
        """Return the latent's string, and the hyper-latent's where the network has one."""
        if not hasattr(self.network, "h_a"):
            return [[payload]]
        end = LENGTH_BYTES + int.from_bytes(payload[:LENGTH_BYTES], "big")
        if len(payload) < end:
            raise BitstreamError(f"a string of {end - LENGTH_BYTES} bytes in a payload of {len(payload)}")
        return [[payload[end:]], [payload[LENGTH_BYTES:end]]]

    def _analyse(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the latent, and the hyper-latent where the network has one."""
        y = self.network.g_a(x)
        return y, self.network.h_a(y) if hasattr(self.network, "h_a") else None

    def _entropy_model_macs(self, x: Tensor) -> int:
        """Count what encoder and decoder both compute: means and scales, from the hyper-latent and the latent."""
        net = self.network

        def parameters(x: Tensor) -> None:
            y, z = self._analyse(x)
            if z is None:
                return
            means_and_scales = net.h_s(z)
            if hasattr(net, "context_prediction"):
                net.entropy_parameters(torch.cat([means_and_scales, net.context_prediction(y)], dim=1))

        return count_macs(parameters, x) - count_macs(self._analyse, x)

    def _padded(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        return F.pad(images.float().cpu(), (0, -width % MULTIPLE, 0, -height % MULTIPLE))


def learned(architecture: str, calibration: Calibration) -> list[LearnedImage]:
    """Return the qualities whose weights are in torch's cache; nothing is downloaded.

    Args:
        architecture: one of the zoo's.
        calibration: how images became the network's input.

    Returns:
        Codecs, from few bytes to many; none, and a line on the terminal, where there are no weights.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    urls = import_zoo().model_urls[architecture]["mse"]
    paths = {quality: folder / PurePosixPath(urlparse(url).path).name for quality, url in sorted(urls.items())}
    found = {quality: path for quality, path in paths.items() if path.is_file()}
    if not found:
        first = paths[min(paths)]
        say(f"{_codec_name(architecture)}: left out, no weights here; looked for {first}, from {urls[min(paths)]}")
    return [LearnedImage(calibration.preprocessing, architecture, *item) for item in found.items()]


bmshj2018_factorized = partial(learned, "bmshj2018-factorized")
bmshj2018_hyperprior = partial(learned, "bmshj2018-hyperprior")
mbt2018_mean = partial(learned, "mbt2018-mean")
mbt2018 = partial(learned, "mbt2018")
cheng2020_anchor = partial(learned, "cheng2020-anchor")
cheng2020_attn = partial(learned, "cheng2020-attn")


def _codec_name(architecture: str) -> str:
    return architecture.replace("-", "_")


def import_zoo() -> Any:
    """Import the list of CompressAI's image codecs, which takes a second."""
    with warnings.catch_warnings():
        # compressai imports torch_geometric, which scripts functions as it is imported
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
        from compressai.zoo import image
    return image


def _load(architecture: str, path: Path) -> nn.Module:
    """Load weights as the zoo does once it has downloaded them."""
    zoo = import_zoo()
    try:
        state = zoo.load_pretrained(read_weights(path))
        network: nn.Module = zoo.model_architectures[architecture].from_state_dict(state).eval()
    except (RuntimeError, KeyError) as error:
        raise UsageError(f"codec {_codec_name(architecture)}: {path} does not fit it ({reason(error)})") from None
    return network
