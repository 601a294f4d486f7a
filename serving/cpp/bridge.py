"""What the C++ library calls: the embedding API with the plain arguments that C++ has, where empty means default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image

from hybridstitch.engines.store.manifest import our_version
from hybridstitch.method.settings import parse_settings
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.pictures import encode_png
from hybridstitch.runtime.result import Picture, settings_of
from hybridstitch.serving.options import ServiceOptions
from hybridstitch.serving.service import Service
from hybridstitch.serving.ticket import Ticket, Update

Pixels = tuple[int, int, bytes]
"""Width, height, and rows of 8-bit RGB."""
OnProgress = Callable[[int, int, str, Pixels | None], None]


@dataclass(frozen=True)
class Bridge:
    """A service, and what its pictures' files say of it."""

    service: Service
    pair: str
    options: ServiceOptions

    @classmethod
    def load(cls, given: Mapping[str, object]) -> Bridge:
        """`Service.load`.

        Args:
            given: the options that C++ sets, by their names in `ServiceOptions`.

        Raises:
            HybridStitchError: as there.
        """
        options = ServiceOptions.parsed(given)
        return cls(Service.open(options), Recipe.load(options.pair).name, options)

    def submit(
        self,
        prompt: str,
        negative_prompt: str | None,
        seed: int,
        size: str,
        method: str,
        settings: Mapping[str, str],
        timeout: float,
        previews: int,
        on_progress: OnProgress | None,
    ) -> Ticket:
        """`Service.resolve`, then `Service.submit`.

        Raises:
            HybridStitchError: as there.
        """
        request = self.service.resolve(
            prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            size=size or None,
            method=method or None,
            **parse_settings(settings),
        )
        return self.service.submit(
            request,
            timeout=timeout or None,
            on_update=None if on_progress is None else lambda update: _tell(on_progress, update),
            previews=previews,
        )

    def pixels(self, picture: Picture) -> Pixels:
        """The picture as it is."""
        return _pixels(picture.image)

    def png(self, picture: Picture) -> bytes:
        """The file that `run` writes of it."""
        return encode_png(picture.image, settings_of(picture, self.pair, self.options.backend, our_version()))


def _tell(on_progress: OnProgress, update: Update) -> None:
    preview = None if update.preview is None else _pixels(update.preview)
    on_progress(update.step, update.steps, update.stage, preview)


def _pixels(image: Image.Image) -> Pixels:
    return image.width, image.height, image.convert("RGB").tobytes()
