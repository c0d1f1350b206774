"""What a generated inspection picture shows: the vocabulary of two domains, and a layout without overlaps.

Coordinates are integer pixels where x = 0 is the left edge of the first pixel and x = width the right edge of the last:
a box (x1, y1, x2, y2) covers the pixels `image[y1:y2, x1:x2]`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from dvlm.geometry.shapes import Kind

Colour = tuple[int, int, int]
Points = tuple[tuple[int, int], ...]

COMPLETE, PARTIAL = "显示完整", "只显示部分"
OBJECTS = {2: 0.38, 3: 0.27, 4: 0.18, 5: 0.10, 6: 0.07}  # objects a picture: chance; few, so that answers stay short
VERTICES = {3: 0.4, 4: 0.3, 5: 0.2, 6: 0.1}  # vertices of a cable: chance
GAP = 5  # free pixels around every object
TRIES = 40  # places that are tried for an object before the picture goes without it


class Role(Enum):
    """What an object is, in any domain; the order is that of a summary."""

    DEVICE = 0  # a large box with a brand plate, a model number and as many slots as the model tells
    UNIT = 1  # a box with a brand plate, sometimes cut by the right or lower edge of the picture
    PORT = 2  # a small box of one colour
    TAG = 3  # a tilted piece of paper with a text
    CABLE = 4  # a bent line of one colour

    @property
    def kind(self) -> Kind:
        """The geometry of its record."""
        return {Role.TAG: Kind.QUAD, Role.CABLE: Kind.LINE}.get(self, Kind.BBOX)


BAG = (Role.DEVICE,) * 2 + (Role.UNIT,) * 2 + (Role.PORT,) * 4 + (Role.TAG,) * 2 + (Role.CABLE,) * 2


@dataclass(frozen=True)
class Domain:
    """The words of a kind of picture and its look. `marks` is the short word that is painted on a box."""

    names: dict[Role, str]
    marks: dict[Role, str]
    brands: dict[str, Colour]
    model_key: str
    models: tuple[str, ...]
    colours: dict[str, Colour]
    papers: dict[str, Colour]
    texts: tuple[str, ...]
    device: Colour
    unit: Colour
    wall: Colour
    inside: Colour
    round_slots: bool


DOMAINS = {
    "a": Domain(
        names=dict(zip(Role, ("BBU设备", "电源模块", "光模块", "标签", "线缆"), strict=True)),
        marks={Role.DEVICE: "BBU", Role.UNIT: "电源"},
        brands={"华为": (200, 32, 48), "中兴": (24, 116, 205), "爱立信": (20, 130, 80), "诺基亚": (112, 52, 168)},
        model_key="型号",
        models=("3900", "3910", "5900", "6630", "8200"),
        colours={
            "红": (214, 40, 40), "蓝": (30, 80, 220), "黄": (245, 205, 30), "绿": (20, 160, 70), "黑": (20, 20, 20),
        },
        papers={"白": (248, 248, 244), "黄": (250, 226, 90)},
        texts=("A12", "A25", "B07", "B31", "C18", "C46", "D09", "D53"),
        device=(62, 70, 84),
        unit=(214, 218, 222),
        wall=(112, 116, 120),
        inside=(160, 164, 168),
        round_slots=False,
    ),
    "b": Domain(
        names=dict(zip(Role, ("蓄电池", "整流器", "熔断器", "铭牌", "铜排"), strict=True)),
        marks={Role.DEVICE: "电池", Role.UNIT: "整流"},
        brands={"南都": (190, 90, 20), "双登": (0, 120, 130), "圣阳": (160, 30, 110), "理士": (90, 100, 20)},
        model_key="容量",
        models=("50", "100", "150", "200", "500"),
        colours={
            "橙": (240, 130, 20), "紫": (150, 70, 200), "青": (40, 200, 210), "白": (240, 240, 240),
            "粉": (245, 150, 180),
        },
        papers={"银": (196, 200, 206), "绿": (150, 214, 150)},
        texts=("K1", "K2", "K5", "K8", "M3", "M4", "M6", "M9"),
        device=(226, 222, 210),
        unit=(120, 150, 130),
        wall=(34, 38, 48),
        inside=(58, 64, 78),
        round_slots=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One object: its visible `points` (2 corners, 4 corners or the vertices) and the words that are painted on it.

    `whole` is the box of a unit before the edge of the picture cuts it, in the form of `points`.
    """

    role: Role
    points: Points
    brand: str = ""
    model: str = ""
    text: str = ""
    colour: str = ""
    whole: Points = ()

    def desc(self, domain: Domain) -> str:
        """Its description: the type, then what can be seen of it."""
        match self.role:
            case Role.DEVICE:
                attributes = [f"品牌:{self.brand}", f"{domain.model_key}:{self.model}"]
            case Role.UNIT:
                attributes = [f"品牌:{self.brand}", COMPLETE if self.whole == self.points else PARTIAL]
            case Role.TAG:
                attributes = [f"文字:{self.text}", f"颜色:{self.colour}"]
            case Role.PORT | Role.CABLE:
                attributes = [f"颜色:{self.colour}"]
        return "/".join([domain.names[self.role], *attributes])


@dataclass(frozen=True)
class Scene:
    """One picture before it is painted: `items` top to bottom, then left to right; `light` is the slope of the light
    on the background along x and y, `shelves` the y of its shelves."""

    domain: Domain
    width: int
    height: int
    items: tuple[Item, ...]
    light: tuple[float, float]
    shelves: tuple[int, ...]

    @property
    def summary(self) -> str:
        """`BBU设备×1/光模块×3`: the count of every type that occurs, in the order of the roles."""
        counts = {role: sum(item.role is role for item in self.items) for role in Role}
        return "/".join(f"{self.domain.names[role]}×{count}" for role, count in counts.items() if count)


def layout(rng: np.random.Generator, *, domain: str = "a") -> Scene:
    """A picture of 2 to 6 objects that keep clear of each other. Raises ValueError for a domain that does not exist."""
    if domain not in DOMAINS:
        raise ValueError(f"domain must be one of {sorted(DOMAINS)}, got {domain!r}")
    words = DOMAINS[domain]
    width, height = _size(rng), _size(rng)
    items: list[Item] = []
    while len(items) < 2:
        items = _items(rng, words, width, height)
    items.sort(key=lambda item: (min(y for _, y in item.points), min(x for x, _ in item.points)))
    light = tuple(float(value) for value in rng.uniform(-0.12, 0.12, 2))
    shelves = tuple(int(y) for y in range(int(rng.integers(30, 70)), height - 10, int(rng.integers(56, 90))))
    return Scene(words, width, height, tuple(items), (light[0], light[1]), shelves)


def _size(rng: np.random.Generator) -> int:
    """A multiple of 32 in 224..320; one time in five any number between, so that rounding to a multiple matters."""
    if rng.random() < 0.2:
        return int(rng.integers(224, 321))
    return 32 * int(rng.integers(7, 11))


def _items(rng: np.random.Generator, words: Domain, width: int, height: int) -> list[Item]:
    """Objects out of the bag, less those that find no place."""
    chosen = rng.permutation(len(BAG))[: _weighted(rng, OBJECTS)]
    taken = np.zeros((height, width), np.uint8)
    # The large and the long ones first: the others still find a place among them.
    roles = sorted((BAG[i] for i in chosen), key=list(PLACERS).index)
    placed = (_place(rng, role, words, taken) for role in roles)
    return [item for item in placed if item is not None]


def _place(rng: np.random.Generator, role: Role, words: Domain, taken: np.ndarray) -> Item | None:
    """An object of `role` at a free place, which is then marked in `taken`; None where there is none."""
    height, width = taken.shape
    for _ in range(TRIES):
        item = PLACERS[role](rng, words, width, height)
        if item is None:
            continue
        footprint = np.zeros_like(taken)
        outline = np.array(_corners(item.points) if role.kind is Kind.BBOX else item.points, np.int32)
        cv2.polylines(footprint, [outline], role.kind is not Kind.LINE, 1, 2 * GAP + 6 * (role is Role.CABLE))
        if role.kind is not Kind.LINE:
            cv2.fillPoly(footprint, [outline], 1)
        if not (footprint & taken).any():
            taken |= footprint
            return item
    return None


def _corners(box: Points) -> Points:
    """The four corners of a box, clockwise from the top left."""
    (x1, y1), (x2, y2) = box
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def _pick(rng: np.random.Generator, choices: Collection[str]) -> str:
    """One of `choices`, each as likely."""
    return list(choices)[rng.integers(len(choices))]


def _weighted(rng: np.random.Generator, chances: dict[int, float]) -> int:
    """One key of `chances`, as likely as its value says."""
    return int(rng.choice(list(chances), p=list(chances.values())))


def _box(rng: np.random.Generator, width: int, height: int, wide: tuple[int, int], high: tuple[int, int]) -> Points:
    """A box inside the picture with a width and a height out of the ranges `wide` and `high`, in pixels."""
    w, h = int(rng.integers(*wide)), int(rng.integers(*high))
    x, y = int(rng.integers(4, width - w - 3)), int(rng.integers(4, height - h - 3))
    return (x, y), (x + w, y + h)


def _device(rng: np.random.Generator, words: Domain, width: int, height: int) -> Item:
    box = _box(rng, width, height, (112, 150), (48, 64))
    return Item(Role.DEVICE, box, brand=_pick(rng, words.brands), model=_pick(rng, words.models))


def _unit(rng: np.random.Generator, words: Domain, width: int, height: int) -> Item:
    """A unit; one in four sticks out of the picture, to the right or below, with its brand plate still in sight."""
    (x1, y1), (x2, y2) = _box(rng, width, height, (78, 98), (46, 58))
    if rng.random() < 0.25:
        seen = rng.uniform(0.62, 0.75)
        if rng.random() < 0.5:
            x1, x2 = (x + width - x1 - int(seen * (x2 - x1)) for x in (x1, x2))
        else:
            y1, y2 = (y + height - y1 - int(seen * (y2 - y1)) for y in (y1, y2))
    visible = (x1, y1), (min(x2, width), min(y2, height))
    return Item(Role.UNIT, visible, brand=_pick(rng, words.brands), whole=((x1, y1), (x2, y2)))


def _port(rng: np.random.Generator, words: Domain, width: int, height: int) -> Item:
    box = _box(rng, width, height, (38, 48), (24, 31))
    return Item(Role.PORT, box, colour=_pick(rng, words.colours))


def _tag(rng: np.random.Generator, words: Domain, width: int, height: int) -> Item | None:
    """A tag tilted by 6 to 35 degrees; None if a corner leaves the picture."""
    w, h = rng.uniform(54, 70), rng.uniform(24, 30)
    angle = np.radians(rng.uniform(6, 35)) * rng.choice([-1, 1])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = rng.uniform((34, 24), (width - 34, height - 24))
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn + centre
    corners = np.rint(corners).astype(int)
    if (corners < 2).any() or (corners > (width - 2, height - 2)).any():
        return None
    return Item(Role.TAG, _points(corners), text=_pick(rng, words.texts), colour=_pick(rng, words.papers))


def _cable(rng: np.random.Generator, words: Domain, width: int, height: int) -> Item | None:
    """A cable of 3 to 6 vertices, its upper end first; None if it leaves the picture or a bend is hard to see."""
    count, lying = _weighted(rng, VERTICES), bool(rng.random() < 0.4)
    size = np.array([height, width] if lying else [width, height])
    along = np.linspace(0, rng.uniform(0.4, 0.8) * size[1], count) + rng.uniform(-5, 5, count)
    across = np.cumsum(rng.uniform(-46, 46, count))
    path = np.stack([across, along], axis=1)
    path = np.rint(path - path.min(0) + rng.uniform(8, np.maximum(size - np.ptp(path, axis=0) - 8, 9))).astype(int)
    if (path > size - 8).any() or np.abs(_bends(path)).min() < np.radians(25):
        return None
    path = path[:, ::-1] if lying else path
    if abs(path[0, 1] - path[-1, 1]) < 20:  # else it is a guess which end is the upper one
        return None
    path = path if path[0, 1] < path[-1, 1] else path[::-1]
    return Item(Role.CABLE, _points(path), colour=_pick(rng, words.colours))


def _bends(path: np.ndarray) -> np.ndarray:
    """The turn at each inner vertex of a path (n, 2), in radians."""
    steps = np.diff(path, axis=0).astype(float)
    headings = np.arctan2(steps[:, 1], steps[:, 0])
    return (np.diff(headings) + np.pi) % (2 * np.pi) - np.pi


def _points(array: np.ndarray) -> Points:
    return tuple((int(x), int(y)) for x, y in array)


PLACERS: dict[Role, Callable[[np.random.Generator, Domain, int, int], Item | None]] = {
    Role.DEVICE: _device,
    Role.CABLE: _cable,
    Role.UNIT: _unit,
    Role.TAG: _tag,
    Role.PORT: _port,
}
