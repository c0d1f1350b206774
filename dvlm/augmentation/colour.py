"""Colour ops: they change no geometry. Drawn here as plain numbers, painted by albumentations' functions."""

from __future__ import annotations

import sys
from abc import abstractmethod
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dvlm.augmentation.op import ChanceOp, register
from dvlm.augmentation.scene import Scene

Image = NDArray[np.uint8]
_LUMA = np.array([0.299, 0.587, 0.114])  # how much red, green and blue count in the grey of a pixel


def _pixel() -> ModuleType:
    """albumentations' functions of pixels, imported by the first image that needs them: that takes seconds."""
    if "albumentations" not in sys.modules:
        # On import it asks the internet for a newer version of itself, and waits; this stands in for the question.
        silent = ModuleType("albumentations.check_version")
        silent.check_for_updates = lambda: None  # type: ignore[attr-defined]
        sys.modules[silent.__name__] = silent
    from albumentations.augmentations.pixel import functional

    return functional


@dataclass(frozen=True, kw_only=True)
class ColourOp(ChanceOp):
    """An op on colours: it draws a few numbers, and paints with them when the image is rendered."""

    @abstractmethod
    def params(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The numbers to paint with."""

    @abstractmethod
    def paint(self, image: Image, params: tuple[float, ...]) -> Image:
        """A new image (H, W, 3) RGB, painted with the numbers that `params` drew."""

    def draw(self, scene: Scene, rng: np.random.Generator) -> Scene:
        return scene.painted(self, self.params(rng))


@register("color_jitter")
@dataclass(frozen=True, kw_only=True)
class ColorJitter(ColourOp):
    """Multiply brightness, contrast about the mean grey, and saturation by factors from these ranges."""

    brightness: tuple[float, float] = (0.85, 1.15)
    contrast: tuple[float, float] = (0.85, 1.15)
    saturation: tuple[float, float] = (0.85, 1.15)

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("brightness", "contrast", "saturation"):
            self.check_range(field, 0, 4)

    def params(self, rng: np.random.Generator) -> tuple[float, ...]:
        return tuple(rng.uniform(*limits) for limits in (self.brightness, self.contrast, self.saturation))

    def paint(self, image: Image, params: tuple[float, ...]) -> Image:
        import cv2

        brightness, contrast, saturation = params
        pivot = brightness * float(_LUMA @ cv2.mean(image)[:3])
        matrix = contrast * brightness * _saturating(saturation)
        return _pixel().linear_transformation_rgb(image, np.column_stack([matrix, np.full(3, (1 - contrast) * pivot)]))


@register("gamma")
@dataclass(frozen=True, kw_only=True)
class Gamma(ColourOp):
    """Raise every value, as a share of white, to a power from the range `gamma`: above 1 darkens."""

    gamma: tuple[float, float] = (0.8, 1.25)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("gamma", 0.1, 10)

    def params(self, rng: np.random.Generator) -> tuple[float, ...]:
        return (rng.uniform(*self.gamma),)

    def paint(self, image: Image, params: tuple[float, ...]) -> Image:
        return _pixel().gamma_transform(image, params[0])


@register("hsv")
@dataclass(frozen=True, kw_only=True)
class Hsv(ColourOp):
    """Turn the hue by degrees from `hue_delta_deg`; multiply saturation and value by factors from `sat` and `val`."""

    hue_delta_deg: tuple[float, float] = (-5.0, 5.0)
    sat: tuple[float, float] = (0.9, 1.1)
    val: tuple[float, float] = (0.9, 1.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("hue_delta_deg", -180, 180)
        self.check_range("sat", 0, 4)
        self.check_range("val", 0, 4)

    def params(self, rng: np.random.Generator) -> tuple[float, ...]:
        return tuple(rng.uniform(*limits) for limits in (self.hue_delta_deg, self.sat, self.val))

    def paint(self, image: Image, params: tuple[float, ...]) -> Image:
        degrees, saturation, value = params
        image = _pixel().adjust_hue_torchvision(image, degrees / 360)
        return _pixel().linear_transformation_rgb(image, value * _saturating(saturation))


@register("clahe")
@dataclass(frozen=True, kw_only=True)
class Clahe(ColourOp):
    """Local contrast (CLAHE) on a grid of tiles, with a clip limit between 1 and `clip_limit`."""

    clip_limit: float = 2.0
    tile_grid_size: tuple[int, int] = (8, 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_number("clip_limit", 1, 100)
        grid = self.tile_grid_size
        whole = isinstance(grid, tuple) and all(isinstance(side, int) and side >= 1 for side in grid)
        self.check("tile_grid_size", whole and len(grid) == 2, "[columns, rows]")

    def params(self, rng: np.random.Generator) -> tuple[float, ...]:
        return (rng.uniform(1, self.clip_limit),)

    def paint(self, image: Image, params: tuple[float, ...]) -> Image:
        return _pixel().clahe(image, params[0], self.tile_grid_size)


@register("sharpness")
@dataclass(frozen=True, kw_only=True)
class Sharpness(ColourOp):
    """Blend with a smoothed copy by a factor from the range `factor`: below 1 softens, above 1 sharpens."""

    factor: tuple[float, float] = (0.7, 1.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("factor", 0, 10)

    def params(self, rng: np.random.Generator) -> tuple[float, ...]:
        return (rng.uniform(*self.factor),)

    def paint(self, image: Image, params: tuple[float, ...]) -> Image:
        smooth = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
        kernel = smooth * (1 - params[0])
        kernel[1, 1] += params[0]
        return _pixel().convolve(image, kernel)


@register("auto_contrast")
@dataclass(frozen=True, kw_only=True)
class AutoContrast(ColourOp):
    """Stretch each channel to the full range, leaving out `cutoff` percent of its darkest and brightest pixels."""

    cutoff: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_number("cutoff", 0, 49)

    def params(self, rng: np.random.Generator) -> tuple[float, ...]:
        return (self.cutoff,)

    def paint(self, image: Image, params: tuple[float, ...]) -> Image:
        return _pixel().auto_contrast(image, cutoff=params[0], ignore=None, method="pil")


@register("blur")
@dataclass(frozen=True, kw_only=True)
class Blur(ColourOp):
    """Gaussian blur with a standard deviation of `sigma` pixels."""

    sigma: tuple[float, float] = (0.3, 1.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("sigma", 0.1, 50)

    def params(self, rng: np.random.Generator) -> tuple[float, ...]:
        return (rng.uniform(*self.sigma),)

    def paint(self, image: Image, params: tuple[float, ...]) -> Image:
        reach = max(1, round(3 * params[0]))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / params[0]) ** 2)
        return _pixel().separable_convolve(image, weights / weights.sum())


@register("noise")
@dataclass(frozen=True, kw_only=True)
class Noise(ColourOp):
    """Add Gaussian noise of a standard deviation in `std`, in the units of pixel values (0..255)."""

    std: tuple[float, float] = (2.0, 8.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("std", 0, 128)

    def params(self, rng: np.random.Generator) -> tuple[float, ...]:
        return rng.uniform(*self.std), float(rng.integers(2**53))

    def paint(self, image: Image, params: tuple[float, ...]) -> Image:
        std, seed = params
        noise = np.random.default_rng(int(seed)).standard_normal(image.shape, np.float32)
        return _pixel().add_noise(image, noise * np.float32(std))


def _saturating(factor: float) -> NDArray[np.float64]:
    """The matrix (3, 3) that moves colours away from their grey (factor above 1) or towards it."""
    return factor * np.eye(3) + (1 - factor) * _LUMA
