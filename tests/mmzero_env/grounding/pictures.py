from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parents[3] / "benchmarks" / "svg_corpus" / "valid"


@dataclass(frozen=True)
class Case:
    name: str
    svg: str
    true: tuple[str, ...]
    false: tuple[str, ...]
    missed: tuple[str, ...] = ()


def _corpus(name: str) -> str:
    return (CORPUS / f"{name}.svg").read_text(encoding="utf-8")


def _svg(body: str, width: int = 400, height: int = 300) -> str:
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{body}</svg>'


AXIS_BARS = _svg("""
<style>.bar{fill:#4e79a7}.hot{fill:#e15759}.tick{font-size:11px;text-anchor:end;fill:#555}
.cat{font-size:12px;text-anchor:middle}</style>
<rect width="400" height="300" fill="#ffffff"/>
<text x="200" y="24" text-anchor="middle" font-size="16">Visitors per day</text>
<g stroke="#ddd"><line x1="50" y1="60" x2="380" y2="60"/><line x1="50" y1="110" x2="380" y2="110"/>
<line x1="50" y1="160" x2="380" y2="160"/><line x1="50" y1="210" x2="380" y2="210"/></g>
<text class="tick" x="44" y="264">0</text><text class="tick" x="44" y="214">10</text>
<text class="tick" x="44" y="164">20</text><text class="tick" x="44" y="114">30</text>
<text class="tick" x="44" y="64">40</text>
<g transform="translate(0 260) scale(1 -1)">
<rect class="bar" x="70" width="40" height="75"/><rect class="bar" x="130" width="40" height="110"/>
<rect class="hot" x="190" width="40" height="190"/>
<rect class="bar" x="250" width="40" height="50"/></g>
<text class="cat" x="90" y="278">Mon</text><text class="cat" x="150" y="278">Tue</text>
<text class="cat" x="210" y="278">Wed</text><text class="cat" x="270" y="278">Thu</text>
<line x1="50" y1="260" x2="380" y2="260" stroke="black"/>
""")

BARE_BARS = _svg(
    '<rect width="100%" height="100%" fill="white"/>'
    '<path d="M40 20V260H380" stroke="#222" fill="none" stroke-width="2"/>'
    '<rect x="60" y="180" width="50" height="80" fill="crimson"/>'
    '<rect x="140" y="100" width="50" height="160" fill="rgb(30,90,200)"/>'
    '<rect x="220" y="60" width="50" height="200" style="fill:#2ca02c"/>'
    '<rect x="300" y="140" width="50" height="120" fill="gold"/>'
)

PIE = _svg("""
<circle cx="150" cy="150" r="100" fill="#ffd166"/>
<path d="M150 150 L150 50 A100 100 0 0 1 250 150 Z" fill="#ef476f"/>
<path d="M150 150 L250 150 A100 100 0 0 1 150 250 Z" fill="#118ab2"/>
<rect x="280" y="80" width="12" height="12" fill="#ef476f"/><text x="298" y="91">Rent 25%</text>
<rect x="280" y="110" width="12" height="12" fill="#118ab2"/><text x="298" y="121">Food 25%</text>
<rect x="280" y="140" width="12" height="12" fill="#ffd166"/><text x="298" y="151">Other 50%</text>
""")

FLOW = _svg(
    """
<defs><marker id="a" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">
<path d="M0 0L6 3L0 6z"/></marker></defs>
<g fill="#e3f2fd" stroke="#1565c0" stroke-width="2">
<rect x="140" y="20" width="120" height="40" rx="20"/>
<rect x="140" y="100" width="120" height="40"/>
<polygon points="200,180 270,220 200,260 130,220"/><rect x="300" y="200" width="90" height="40"/>
<rect x="140" y="300" width="120" height="40" rx="20"/></g>
<g text-anchor="middle" font-size="14"><text x="200" y="45">Start</text>
<text x="200" y="125">Read input</text><text x="200" y="225">Valid?</text>
<text x="345" y="225">Report error</text><text x="200" y="325">End</text></g>
<g stroke="#333" fill="none" marker-end="url(#a)"><line x1="200" y1="60" x2="200" y2="98"/>
<line x1="200" y1="140" x2="200" y2="178"/><path d="M270 220 H298"/>
<line x1="200" y1="260" x2="200" y2="298"/><path d="M345 200 V120 H262"/></g>
<text x="280" y="212" font-size="10">no</text><text x="206" y="285" font-size="10">yes</text>
""",
    400,
    360,
)

SHAPES = _svg("""
<rect x="0" y="0" width="400" height="300" fill="white"/>
<circle cx="60" cy="60" r="30" fill="red"/><circle cx="160" cy="60" r="30" fill="red"/>
<circle cx="260" cy="60" r="30" fill="#ff0000"/><circle cx="60" cy="200" r="30" fill="blue"/>
<rect x="130" y="170" width="60" height="60" fill="green"/>
<polygon points="260,170 290,230 230,230" fill="orange"/>
<polygon points="350,170 380,230 320,230" fill="orange"/>
<ellipse cx="350" cy="60" rx="40" ry="20" fill="purple"/>
<circle cx="340" cy="280" r="8" fill="red" opacity="0"/>
<circle cx="200" cy="280" r="12" fill="white"/>
<g display="none"><rect x="10" y="250" width="40" height="40" fill="blue"/></g>
""")

LEGEND = _svg("""
<rect width="400" height="300" fill="#fff"/>
<rect x="60" y="100" width="30" height="150" fill="blue"/>
<rect x="95" y="160" width="30" height="90" fill="red"/>
<rect x="180" y="130" width="30" height="120" fill="blue"/>
<rect x="215" y="70" width="30" height="180" fill="red"/>
<text x="92" y="270" text-anchor="middle">North</text>
<text x="212" y="270" text-anchor="middle">South</text>
<rect x="300" y="40" width="12" height="12" fill="blue"/><text x="318" y="51">2023</text>
<rect x="300" y="60" width="12" height="12" fill="red"/><text x="318" y="71">2024</text>
""")

TABLE = _svg("""
<rect x="20" y="20" width="260" height="160" fill="none" stroke="black"/>
<path d="M20 60H280M20 100H280M20 140H280M160 20V180" stroke="black"/>
<text x="30" y="46" font-weight="bold">City</text>
<text x="170" y="46" font-weight="bold">Rain</text>
<text x="30" y="86">Oslo</text><text x="170" y="86">76</text>
<text x="30" y="126">Rome</text><text x="170" y="126">80</text>
<text x="30" y="166">Cairo</text><text x="170" y="166">2</text>
""")

BOARD = _svg(
    '<rect width="220" height="220" fill="white"/>'
    + "".join(
        f'<rect x="{40 + 50 * i}" y="{40 + 50 * j}" width="50" height="50" fill="#eee" '
        'stroke="#333"/>'
        for i in range(3)
        for j in range(3)
    )
    + '<text x="60" y="30">A</text><text x="110" y="30">B</text><text x="160" y="30">C</text>'
    '<text x="20" y="70">1</text><text x="20" y="120">2</text><text x="20" y="170">3</text>'
    '<circle cx="65" cy="65" r="18" fill="red"/><rect x="97" y="97" width="36" height="36" '
    'fill="blue"/><polygon points="165,147 183,183 147,183" fill="green"/>',
    220,
    220,
)

HORIZONTAL = _svg("""
<rect width="400" height="300" fill="#f8f9fa"/>
<g font-size="12" text-anchor="end"><text x="90" y="64">Alpha</text><text x="90" y="104">Beta</text>
<text x="90" y="144">Gamma</text></g>
<rect x="100" y="46" width="210" height="26" fill="#e74c3c"/>
<rect x="100" y="86" width="70" height="26" fill="#3498db"/>
<rect x="100" y="126" width="140" height="26" fill="#2ecc71"/>
<g font-size="12"><text x="316" y="64">42</text><text x="176" y="104">14</text>
<text x="246" y="144">28</text></g>
""")

TRUNCATED = _svg("""
<text x="40" y="254" text-anchor="end" font-size="12">50</text>
<text x="40" y="204" text-anchor="end" font-size="12">60</text>
<text x="40" y="154" text-anchor="end" font-size="12">70</text>
<text x="40" y="104" text-anchor="end" font-size="12">80</text>
<rect x="60" y="150" width="40" height="100" fill="teal"/>
<rect x="120" y="200" width="40" height="50" fill="teal"/>
<rect x="180" y="125" width="40" height="125" fill="teal"/>
<text x="80" y="268" text-anchor="middle" font-size="12">A</text>
<text x="140" y="268" text-anchor="middle" font-size="12">B</text>
<text x="200" y="268" text-anchor="middle" font-size="12">C</text>
""")

GEOMETRY = _svg("""
<line x1="50" y1="250" x2="350" y2="250" stroke="black"/>
<line x1="350" y1="250" x2="50" y2="50" stroke="black"/>
<line x1="50" y1="50" x2="50" y2="250" stroke="black"/>
<text x="200" y="270">12</text><text x="25" y="150">5</text><text x="210" y="140">x</text>
<text x="40" y="45">A</text><text x="40" y="270">B</text><text x="355" y="265">C</text>
<rect x="50" y="235" width="15" height="15" fill="none" stroke="black"/>
""")

LINKED = _svg("""
<g stroke="#444" stroke-width="3"><line x1="80" y1="150" x2="200" y2="60"/>
<line x1="200" y1="60" x2="320" y2="150"/><line x1="80" y1="150" x2="200" y2="240"/></g>
<circle cx="80" cy="150" r="26" fill="#ffe082"/><circle cx="200" cy="60" r="26" fill="#ffe082"/>
<circle cx="320" cy="150" r="26" fill="#ffe082"/><circle cx="200" cy="240" r="26" fill="#ffe082"/>
<g text-anchor="middle"><text x="80" y="156">P</text><text x="200" y="66">Q</text>
<text x="320" y="156">R</text><text x="200" y="246">S</text></g>
""")

CASES = (
    Case(
        "bars with an axis",
        AXIS_BARS,
        (
            "Tue vs Mon = 7",
            "Tue is 7 more than Mon.",
            "Wed: 38 - 10 = 28",
            "The number of visitors on Wed is 38.",
            "Wed to Thu is a drop of 28.",
            "Between Mon and Thu, Mon is the tallest.",
            "There are 2 bars below 20.",
            "There are three blue bars and 1 red bar.",
            "The Mon bar reaches about 15.",
            "Tue: 22, Wed: 38, Thu: 10.",
            "Wed is the tallest, and Thu is the shortest.",
            "The tallest bar is Wed.",
            "The red bar is 38.",
            "Tue is taller than Thu.",
            "The difference between Wed and Thu is 28.",
            "Mon + Tue = 37.",
            "The sum of Mon and Tue is 37, so the answer is 37.",
            "If Thu were 40, it would be the tallest.",
            "The title reads 'Visitors per day'.",
            "There are 4 bars in the chart.",
            "On average each bar is 21.25.",
            "Tue is 3rd, Mon is 15 and Thu is 10 visitors.",
            "Tue is above 20 and below 30.",
        ),
        ("The Mon bar is 25.", "Wed = 30", "Tue is the tallest.", "Thu is taller than Mon."),
    ),
    Case(
        "bars without numbers",
        BARE_BARS,
        (
            "red: 1, blue: 2, green: 3, yellow: 4 is the order from left to right.",
            "Scaling red to 10, blue 20, green 25, yellow 15.",
            "I see red 2, blue 4, green 5, yellow 3.",
            "red = 80, blue = 160, green = 200, yellow = 120.",
            "The green bar is the tallest and the red bar is the shortest.",
            "Blue is taller than yellow.",
            "The blue bar is twice as tall as the red bar: red 4, blue 8.",
            "There are four bars.",
            "The red bar is left of the blue bar.",
            "red 2 + blue 4 = 6",
            "There is no purple bar.",
        ),
        (
            "I see red 2, blue 5, green 5, yellow 3.",
            "The blue bar is the tallest.",
            "Yellow is taller than blue.",
            "The green bar is left of the red bar.",
        ),
    ),
    Case(
        "pie with a legend",
        PIE,
        (
            "Rent: 25%, Food: 25%, Other: 50%.",
            "Other is 50% of the total.",
            "Rent and Food are 50% together.",
            "Rent (25%) + Food (25%) = 50%.",
            "There is a yellow circle.",
        ),
        ("Rent is 30%.", "The label 'Travel' is missing in the legend: I see Food: 20%."),
    ),
    Case(
        "flowchart",
        FLOW,
        (
            "Start -> Read input -> Valid?",
            "The arrow from Start to Read input comes first.",
            "Read input leads to Valid.",
            "Start leads to End.",
            "Start is above End.",
            "There is a diamond.",
            "Report error points to Read input.",
            "It takes from 2 to 4 steps to go from Start to End.",
            "There is a box labelled 'Read input'.",
            "Report error is to the right of Valid.",
        ),
        (
            "Start points to End.",
            "An arrow from End to Start closes the loop.",
            "There is a box labelled 'Write output'.",
            "End is above Start.",
        ),
    ),
    Case(
        "shapes",
        SHAPES,
        (
            "There are 3 colours with 1 shape.",
            "Red has 3 circles, blue has 1 circle.",
            "There are 2 orange triangles and they are next to each other.",
            "red 3, blue 1, green 1, orange 2, purple 1",
            "The row has 4 shapes.",
            "There are 3 red circles.",
            "There are four circles in the image.",
            "I see 3 red circles, 1 blue circle, a green square and two orange triangles.",
            "There is an oval and no hexagon.",
            "There are no blue squares.",
            "The blue circle is to the left of the green square.",
            "The green square is below the purple ellipse.",
            "There are 2 circles in the left half.",
            "There are at least 2 red circles.",
            "There are 2 more circles than triangles.",
            "The blue circle and the green square are in the same row.",
            "The blue circle is in the same row as the green square.",
            "Is there a black hexagon? There isn't a black hexagon.",
            "Suppose there are 5 circles.",
            "In the top row there are 3 circles.",
            "circles: 4, triangles: 2, squares: 1",
            "Each red circle has 2 neighbours.",
            "The first red circle is left of the second red circle.",
        ),
        (
            "There are 4 red circles.",
            "There are 3 triangles.",
            "I see a blue square.",
            "There is a green triangle in the picture.",
            "The green square is left of the blue circle.",
            "The purple ellipse is below the green square.",
            "circles 3, triangles 2",
            "There are no triangles.",
            "The blue circle is in the same row as the purple ellipse.",
        ),
    ),
    Case(
        "grouped bars with a legend",
        LEGEND,
        (
            "Blue: 150 and 120. Red: 90 and 180.",
            "There are 2 groups with 2 bars.",
            "North is 150 in 2023 and 90 in 2024.",
            "The red bar is taller than the blue bar in the South.",
            "North: 150, South: 120.",
            "South: 180",
            "In 2024 red is the tallest.",
            "There are 4 bars.",
            "2023 is blue and 2024 is red.",
            "There are 2 blue bars.",
        ),
        ("There is a green triangle.", "There are 5 circles.", "There is a label 'East'."),
    ),
    Case(
        "table",
        TABLE,
        (
            "Oslo 76 + Rome 80 + Cairo 2 = 158.",
            "Rome is in row 3.",
            "Cairo is below Rome.",
            "Oslo: 76, Rome: 80, Cairo: 2.",
            "Rome has 80.",
            "Rome has the largest value.",
            "Oslo has 4 less than Rome.",
            "Rome - Oslo = 4",
            "Rome and Cairo is 82 in total.",
            "The header says 'Rain'.",
            "Rome has 80 mm.",
            "The average of Oslo and Rome is 78.",
        ),
        ("Oslo is 67.", "Cairo has the largest value.", "Rome = 76, so the answer is 76."),
    ),
    Case(
        "board with labels",
        BOARD,
        (
            "A1 is a red circle, B2 holds a blue square.",
            "The triangle is at C3.",
            "There are 9 cells.",
            "C3 green triangle",
            "The red circle is above the blue square.",
        ),
        ("A1 is a blue circle.", "B1 has a red circle.", "C3: green circle"),
    ),
    Case(
        "horizontal bars with values",
        HORIZONTAL,
        (
            "Alpha 42, Beta 14, Gamma 28.",
            "Alpha is the longest.",
            "The blue bar is 14.",
            "Beta is shorter than Gamma.",
            "Alpha is three times Beta.",
        ),
        ("Alpha is 40.", "Gamma is the longest.", "Beta is longer than Gamma.", "red: 28"),
    ),
    Case(
        "an axis that does not begin at zero",
        TRUNCATED,
        (
            "A is 70, B is 60 and C is 75.",
            "C is the tallest.",
            "A: 70",
            "A is 10 more than B.",
            "A side of 5 and a height of 7.",
        ),
        ("A is 60.", "B is the tallest.", "C = 90"),
    ),
    Case(
        "a triangle of lines",
        GEOMETRY,
        (
            "There is a right triangle with legs 5 and 12.",
            "There is a triangle.",
            "x = 13",
            "A = 22.6",
            "AB = 5, BC = 12, so x = 13.",
            "C is to the right of B.",
            "A is above B.",
        ),
        ("A is below B.", "C is left of B."),
    ),
    Case(
        "a graph",
        LINKED,
        (
            "So S to P to Q to R, steps 3.",
            "S to R takes 3 steps.",
            "P has degree 2.",
            "P is connected to Q.",
            "P is connected to S, and Q is connected to R.",
            "The line from R to Q is short.",
            "There are 4 circles.",
            "From P to R it takes 2 steps.",
            "Q is above S.",
            "Q -> P",
        ),
        ("P is connected to R.", "S is connected to R.", "S is above Q.", "There are 5 circles."),
    ),
    Case(
        "corpus: bars with written values",
        _corpus("bar-chart"),
        (
            "Jan: 8, Feb: 12, Mar: 16, Apr: 7, May: 11.",
            "March is the month with the most books.",
            "Mar is the tallest.",
            "The red bar is 16.",
            "The title says 'Books read per month'.",
            "There are 5 bars.",
            "Feb is taller than May by 1.",
        ),
        ("Apr: 8", "May is the tallest.", "Jan is 12.", "The bar of Feb is 15 and Feb: 15."),
        # A bar the colour of tomatoes is red for some, orange for others.
        ("The red bar is 12.",),
    ),
    Case(
        "corpus: flowchart",
        _corpus("flowchart"),
        (
            "Start points to Read number n.",
            "Start is above End.",
            "There is a label 'Read number n'.",
            "The text reads 'Is n even?'.",
        ),
        ("End is above Start.", "The text reads 'Is n prime?'."),
    ),
    Case(
        "corpus: triangle",
        _corpus("triangle-angles"),
        (
            "A = 65, B = 45 and C = 70.",
            "There are 2 right triangles.",
            "α = 65°, β = 45°, γ = 70°.",
            "There is a triangle.",
            "A is left of B.",
            "c = 22",
        ),
        ("γ = 60°", "β is 65°."),
    ),
    Case(
        "corpus: network",
        _corpus("network-graph"),
        (
            "Then A to B, 7.",
            "A -> B has weight 7.",
            "A is connected to B.",
            "C is connected to E.",
            "A -> C -> E -> F",
            "There are 6 circles.",
            "A is left of F.",
            "D is connected to F.",
            "The shortest path is A to C to E to F with length 2 + 3 + 1 = 6.",
        ),
        ("A is connected to D.", "A is connected to F.", "F is left of A."),
    ),
    Case(
        "corpus: Venn diagram",
        _corpus("venn-two"),
        (
            "There are 2 circles.",
            "There is a red circle and a blue circle.",
            "Cats: 14, Dogs: 9, both: 5.",
            "Cats is 19 in total.",
            "Cats is left of Dogs.",
            "There is a purple region.",
        ),
        ("There are 3 circles.", "There is a green triangle.", "Dogs is left of Cats."),
    ),
    Case(
        "corpus: table of many columns",
        _corpus("table"),
        (
            "Apples: 12, Bananas: 30.",
            "Apples is £0.40.",
            "Bananas: 7.5",
            "Total: 46",
            "The text 'Crème brûlée' is in the third row.",
        ),
        ("There is a label 'Oranges'.",),
        # Which column is meant is not said.
        ("Apples: 13", "Bananas is £0.40."),
    ),
)
