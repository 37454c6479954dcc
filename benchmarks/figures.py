"""What one Python figure costs in the sandbox, and how much of it is the start.

    python -m benchmarks.figures [--size 448] [--repeat 5] [--out DIR]

CPU time counts every process of the sandbox, bubblewrap included: this process adopts
the orphans of the sandboxes, so their time is booked to it. Wall time means something on
an idle machine only.
"""

from __future__ import annotations

import argparse
import ctypes
import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from mmzero_env.errors import UserError
from mmzero_env.rendering.figures import FigureSandbox, missing_for_figures
from mmzero_env.rendering.limits import RenderLimits

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

EMPTY = "pass"
"""A code that draws nothing: all it costs is the start."""

PLT = "import matplotlib.pyplot as plt\nimport numpy as np\n"
CODES: dict[str, str] = {
    "bars": PLT
    + """
years = ["2019", "2020", "2021", "2022", "2023"]
fig, ax = plt.subplots(figsize=(8, 5))
bars = ax.bar(years, [12, 19, 7, 23, 15], color="#4c72b0")
ax.bar_label(bars)
ax.set_title("Harvest by year")
ax.set_ylabel("Tonnes")
ax.grid(axis="y", alpha=0.3)
plt.savefig("chart.png", dpi=150)
plt.show()
""",
    "grouped": PLT
    + """
x = np.arange(4)
fig, ax = plt.subplots()
for shift, (name, values) in enumerate({"north": [3, 5, 2, 6], "south": [4, 1, 5, 2]}.items()):
    ax.bar(x + shift * 0.4, values, 0.4, label=name)
ax.set_xticks(x + 0.2, ["Q1", "Q2", "Q3", "Q4"])
ax.legend(title="Region")
fig.tight_layout()
""",
    "lines": PLT
    + """
t = np.linspace(0, 10, 400)
plt.plot(t, np.sin(t), label=r"$\\sin t$")
plt.plot(t, np.exp(-t / 4) * np.cos(3 * t), "--", label=r"$e^{-t/4}\\cos 3t$")
plt.xlabel("t [s]")
plt.legend()
plt.title("Two waves")
""",
    "pie": PLT
    + """
shares = [35, 25, 20, 12, 8]
plt.pie(shares, labels=["rent", "food", "travel", "books", "rest"], autopct="%d%%",
        explode=[0.1, 0, 0, 0, 0], startangle=90)
plt.title("Where the money goes")
plt.axis("equal")
""",
    "scatter": PLT
    + """
x = np.random.randn(300)
y = 2 * x + np.random.randn(300)
plt.scatter(x, y, c=y, s=30 * np.random.rand(300), cmap="viridis", alpha=0.7)
plt.colorbar(label="height")
slope, offset = np.polyfit(x, y, 1)
plt.plot(x, slope * x + offset, "r")
""",
    "heatmap": PLT
    + """
grid = np.arange(48).reshape(6, 8) % 11
fig, ax = plt.subplots()
ax.imshow(grid, cmap="magma")
for (row, column), value in np.ndenumerate(grid):
    ax.text(column, row, str(value), ha="center", va="center", color="w")
ax.set_xticks(range(8), list("ABCDEFGH"))
""",
    "panels": PLT
    + """
fig, axes = plt.subplots(2, 2, figsize=(10, 8), constrained_layout=True)
axes[0, 0].hist(np.random.randn(1000), bins=30, color="teal")
axes[0, 1].boxplot([np.random.randn(50) + shift for shift in range(4)])
axes[1, 0].step(range(10), np.random.randint(0, 9, 10))
axes[1, 1].fill_between(range(10), np.random.rand(10), 2, alpha=0.4)
for letter, ax in zip("abcd", axes.flat):
    ax.set_title(f"({letter})")
""",
    "geometry": PLT
    + """
from matplotlib.patches import Arc, Circle, Polygon
fig, ax = plt.subplots(figsize=(6, 6))
corners = np.array([[0, 0], [6, 0], [2, 4]])
ax.add_patch(Polygon(corners, fill=False, lw=2))
ax.add_patch(Circle((2.6, 1.4), 1.4, fill=False, ec="red"))
ax.add_patch(Arc((0, 0), 2, 2, theta1=0, theta2=63))
for name, (x, y) in zip("ABC", corners):
    ax.annotate(name, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=14)
ax.text(1.1, 0.3, r"$63^\\circ$")
ax.set_aspect("equal")
ax.axis("off")
ax.autoscale_view()
""",
    "graph": PLT
    + """
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
fig, ax = plt.subplots(figsize=(7, 3))
for place, name in enumerate(["Start", "Check", "Sort", "End"]):
    ax.add_patch(FancyBboxPatch((place * 2, 0), 1.2, 0.6, boxstyle="round,pad=0.1", fc="#eef"))
    ax.text(place * 2 + 0.6, 0.3, name, ha="center", va="center")
    if place:
        ax.add_patch(FancyArrowPatch((place * 2 - 0.7, 0.3), (place * 2 - 0.1, 0.3),
                                     arrowstyle="->", mutation_scale=15))
ax.set_xlim(-0.5, 8)
ax.set_ylim(-0.5, 1.1)
ax.axis("off")
""",
    "surface": PLT
    + """
x, y = np.meshgrid(np.linspace(-3, 3, 40), np.linspace(-3, 3, 40))
ax = plt.figure().add_subplot(projection="3d")
ax.plot_surface(x, y, np.sin(np.hypot(x, y)), cmap="coolwarm")
ax.set_zlabel("height")
""",
    "table": PLT
    + """
fig, ax = plt.subplots(figsize=(6, 2.5))
ax.axis("off")
rows = [["Ada", 91, "A"], ["Ben", 78, "C"], ["Cleo", 85, "B"]]
table = ax.table(cellText=rows, colLabels=["Name", "Points", "Grade"], loc="center")
table.scale(1, 2)
""",
    "pillow": """
from PIL import Image, ImageDraw, ImageFont
image = Image.new("RGB", (600, 400), "#f4f1e8")
draw = ImageDraw.Draw(image)
font = ImageFont.truetype("DejaVuSans-Bold.ttf", 22)
for place, (name, colour) in enumerate([("Harbour", "navy"), ("Mill", "peru"), ("Fort", "gray")]):
    x = 90 + place * 200
    draw.ellipse((x - 30, 150, x + 30, 210), fill=colour)
    draw.text((x, 240), name, fill="black", font=font, anchor="mm")
    if place:
        draw.line((x - 170, 180, x - 30, 180), fill="black", width=4)
image.save("map.png")
""",
}


@dataclass(frozen=True)
class Cost:
    """Cost of one code in milliseconds, one number a repetition.

    Attributes:
        cpu: User and system time of all processes of the sandbox.
        wall: Time until the picture was there.
    """

    cpu: tuple[float, ...]
    wall: tuple[float, ...]

    def texts(self) -> tuple[str, str]:
        """Both as text."""
        return Spread.of(self.cpu).text(0), Spread.of(self.wall).text(0)


def cost(sandbox: FigureSandbox, code: str, repeat: int) -> Cost:
    """Draw a code some times."""
    cpu, wall = [], []
    for _ in range(repeat):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        sandbox.draw(code)
        wall.append(1000 * (time.perf_counter() - started))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        user = after.ru_utime - before.ru_utime
        cpu.append(1000 * (user + after.ru_stime - before.ru_stime))
    return Cost(tuple(cpu), tuple(wall))


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, help="directory for the pictures")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Draw every code, and an empty one for the start.

    Raises:
        UserError: If figures cannot be drawn here, or a code is not drawn.
    """
    missing = missing_for_figures()
    if missing is not None:
        raise UserError(missing)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sandbox = FigureSandbox(args.size, RenderLimits())
    start = cost(sandbox, EMPTY, args.repeat)
    costs = {name: cost(sandbox, code, args.repeat) for name, code in CODES.items()}
    if args.out is not None:
        _save(sandbox, args.out)
    return found(args.size, start, costs)


def found(size: int, start: Cost, costs: Mapping[str, Cost]) -> Findings:
    """Tables and ratios of what was measured."""
    means = [statistics.mean(turn) for turn in zip(*(c.cpu for c in costs.values()), strict=True)]
    rows = [("(the start alone)", *start.texts())]
    rows += [(name, *each.texts()) for name, each in costs.items()]
    mean = Spread.of(means)
    return Findings(
        {
            "size": size,
            "start": asdict(start),
            "codes": {name: asdict(each) for name, each in costs.items()},
        },
        (
            Table(
                f"one Python figure of {size} px in the sandbox",
                ("code", "CPU ms", "wall ms"),
                tuple(rows),
                f"Mean over the codes: {mean.text(0)} CPU ms, "
                f"{1000 / mean.median:.1f} figures a second and core.",
            ),
        ),
        (Ratio.of("the start alone / a figure, CPU time", start.cpu, means),),
        packages=("matplotlib", "pillow"),
    )


def _save(sandbox: FigureSandbox, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, code in CODES.items():
        drawing = sandbox.draw(code)
        if drawing.image is None:
            raise UserError(f"{name} was not drawn: {drawing.failure}")
        Image.fromarray(drawing.image).save(folder / f"{name}.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for."""
    return script.run("figures", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
