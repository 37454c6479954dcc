from __future__ import annotations

import numpy as np
import pytest

from mmzero_env.errors import UserError
from mmzero_env.protocol import Failure
from mmzero_env.rendering.guard import Vetted, vet
from mmzero_env.rendering.limits import RenderLimits

HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="0 0 100 100">'
)


def svg(body: str, head: str = HEAD) -> str:
    return f"{head}{body}</svg>"


def bomb(levels: int) -> str:
    groups = "".join(
        f'<g id="a{level}">' + f'<use href="#a{level - 1}"/>' * 10 + "</g>"
        for level in range(1, levels)
    )
    return svg(f'<g id="a0"><rect width="1" height="1"/></g>{groups}')


REFUSED = {
    "empty": ("", "not_svg"),
    "prose": ("Here is your chart.", "not_svg"),
    "html": ("<html><body>svg</body></html>", "not_svg"),
    "unclosed tag": (f"{HEAD}<rect>", "malformed_xml"),
    "raw ampersand": (svg("<text>a & b</text>"), "malformed_xml"),
    "unbound prefix": ('<svg viewBox="0 0 9 9"><use xlink:href="#a"/></svg>', "malformed_xml"),
    "nul": (svg("<text>\0</text>"), "malformed_xml"),
    "entity of HTML": (
        '<!DOCTYPE svg PUBLIC "a" "http://127.0.0.1:9/a.dtd">' + svg("<text>&nbsp;</text>"),
        "malformed_xml",
    ),
    "surrogate": (svg("<text>\ud800</text>"), "bad_encoding"),
    "entity": (
        '<!DOCTYPE svg [<!ENTITY a "b">]>' + svg("<text>&a;</text>"),
        "dtd_declarations",
    ),
    "external entity": (
        '<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + svg("<text>&a;</text>"),
        "dtd_declarations",
    ),
    "too many bytes": (svg(" " * 300_000), "too_large"),
    "too many bytes in UTF-8": (svg(f"<text>{'é' * 140_000}</text>"), "too_large"),
    "too many elements": (svg("<g/>" * 5001), "too_many_elements"),
    "nesting": (svg("<g>" * 100 + "</g>" * 100), "too_deep"),
    "long path": (svg(f'<path d="M0 0{"L1 1" * 10_000}"/>'), "attribute_too_long"),
    "much text": (svg(f"<text>{'a' * 10_001}</text>"), "too_much_text"),
    "much CSS": (svg(f"<style>{'a{}' * 11_000}</style>"), "css_too_large"),
    "many rules": (svg(f"<style>{'*{}' * 5_000}</style>" + "<g/>" * 2_000), "too_costly"),
    "variables that multiply": (
        svg(
            "<style>:root{--a0:xxxxxxxx;"
            + "".join(f"--a{i}:{f'var(--a{i - 1})' * 10};" for i in range(1, 12))
            + "}</style><rect fill='var(--a11)'/>"
        ),
        "css_too_large",
    ),
    "huge number": (svg('<rect width="123456789"/>'), "number_too_large"),
    "huge exponent": (svg('<path d="M0 0L1e9 3"/>'), "number_too_large"),
    "exponent beyond floats": (svg('<rect width="1e999"/>'), "number_too_large"),
    "NaN": (svg('<rect width="nan"/>'), "number_not_finite"),
    "infinity in a style": (svg('<rect style="stroke-width:inf"/>'), "number_not_finite"),
    "empty viewBox": (svg("", '<svg viewBox="0 0 0 5">'), "empty_viewport"),
    "no height": (svg("", '<svg width="5" height="0">'), "empty_viewport"),
    "a hair": (svg("", '<svg viewBox="0 0 1 101">'), "extreme_aspect"),
    "use of itself": (svg('<g id="a"><use href="#a"/></g>'), "reference_cycle"),
    "pattern in itself": (
        svg('<pattern id="p"><g fill="url(#p)"/></pattern><rect fill="url(#p)"/>'),
        "reference_cycle",
    ),
    "use bomb": (bomb(8), "too_costly"),
    "pattern bomb": (
        svg(
            '<pattern id="p">' + "<g/>" * 100 + "</pattern>" + '<rect fill="url(#p)"/>' * 100,
        ),
        "too_costly",
    ),
    "chain of references": (
        svg(
            "".join(f'<g id="a{i}"><use href="#a{i + 1}"/></g>' for i in range(200))
            + '<g id="a200"/>'
        ),
        "too_deep",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_named(name: str) -> None:
    code, reason = REFUSED[name]
    verdict = vet(code)
    assert isinstance(verdict, Failure)
    assert (verdict.stage, verdict.reason) == ("render", reason), verdict.detail
    assert verdict.detail


FLAGGED = {
    "script": ("<script>alert(1)</script>", ("script_dropped",), "script"),
    "foreign object": (
        '<foreignObject><p xmlns="http://www.w3.org/1999/xhtml">x</p></foreignObject>',
        ("foreign_object_dropped", "foreign_element_dropped"),
        "foreignObject",
    ),
    "file": ('<image href="file:///etc/passwd"/>', ("image_dropped",), "passwd"),
    "data image": ('<image xlink:href="data:image/png;base64,AA"/>', ("image_dropped",), "data:"),
    "use of a file": (
        '<use xlink:href="http://127.0.0.1:9/a.svg#b"/>',
        ("external_reference_dropped", "dangling_reference"),
        "127.0.0.1",
    ),
    "use of everything": ('<use href="#"/>', ("dangling_reference",), "<use"),
    "paint server outside": (
        '<rect fill="url(http://127.0.0.1:9/a#b)"/>',
        ("external_reference_dropped",),
        "127.0.0.1",
    ),
    "import": (
        "<style>@import url(http://127.0.0.1:9/a.css); a{}</style>",
        ("external_reference_dropped",),
        "127.0.0.1",
    ),
    "link": ('<a href="http://127.0.0.1:9/"><rect/></a>', ("link_dropped",), "127.0.0.1"),
    "marker that is not there": (
        '<path d="M0 0L9 9" marker-end="url(#no)"/>',
        ("dangling_reference",),
        "url(#no)",
    ),
    "hsl": ('<rect fill="hsl(120,100%,50%)"/>', ("hsl_normalised",), "hsl"),
    "var": (
        "<style>:root{--c:red}</style><rect fill='var(--c)'/>",
        ("var_resolved",),
        "var(",
    ),
    "alpha in hex": ('<rect fill="#ff000080"/>', ("colour_normalised",), "#ff000080"),
    "rem": ('<text style="font-size:2rem">a</text>', ("units_normalised",), "rem"),
}


@pytest.mark.parametrize("name", FLAGGED)
def test_what_is_dropped_or_rewritten_is_flagged(name: str) -> None:
    body, flags, gone = FLAGGED[name]
    assert gone in svg(body)
    verdict = vet(svg(body))
    assert isinstance(verdict, Vetted)
    assert verdict.flags == flags
    assert gone not in verdict.to_bytes().decode()


def test_a_clean_document_has_no_flags() -> None:
    verdict = vet(svg('<rect fill="rgb(1,2,3)"/><text>A<title>tip</title>b</text>'))
    assert isinstance(verdict, Vetted)
    assert verdict.flags == ()
    assert b"Ab" in verdict.to_bytes(), "the text behind a dropped element stays"


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('viewBox="0 0 800 600"', (800, 600)),
        ('viewBox="0,0,800,600" width="400"', (400, 300)),
        ('viewBox="0 0 800 600" width="100%" height="100%"', (800, 600)),
        ('viewBox="0 0 800 600" style="width:100%;height:auto"', (800, 600)),
        ('width="2in" height="96pt"', (192, 128)),
        ('width="400"', (None, None)),
        ('viewBox="a b c d"', (None, None)),
        ("", (None, None)),
    ],
)
def test_size_of_the_picture(attributes: str, size: tuple) -> None:
    verdict = vet(f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}/>')
    assert isinstance(verdict, Vetted)
    assert (verdict.width, verdict.height) == size
    assert ("size_missing" in verdict.flags) == (size[0] is None)


@pytest.mark.parametrize(
    ("colour", "plain"),
    [
        ("hsl(0, 100%, 50%)", "rgb(255,0,0)"),
        ("hsl(240deg 100% 25%)", "rgb(0,0,128)"),
        ("hsl(0.5turn 100% 50% / 50%)", "rgba(0,255,255,0.5)"),
        ("hsla(400grad, 0%, 100%, .25)", "rgba(255,255,255,0.25)"),
        ("rgb(255 0 10)", "rgb(255,0,10)"),
        ("rgb(100%, 0%, 20%)", "rgb(255,0,51)"),
        ("rgba(1,2,3,50%)", "rgba(1,2,3,0.5)"),
        ("rgb(1,2,3)", "rgb(1,2,3)"),
        ("hsl(what)", "hsl(what)"),
    ],
)
def test_colours_become_plain(colour: str, plain: str) -> None:
    verdict = vet(svg(f'<rect fill="{colour}"/>'))
    assert isinstance(verdict, Vetted)
    assert verdict.root[0].get("fill") == plain


def test_variables_take_the_first_definition_and_fall_back() -> None:
    style = (
        "<style>:root{--a:var(--b);--b:red} @media (prefers-color-scheme:dark)"
        "{:root{--b:white}}</style>"
    )
    circle = "<g style='--c:var(--d);--d:var(--c)'/>"
    body = "<rect fill='var(--a)' stroke='var(--z, var(--a))'/><rect fill='var(--c)'/>"
    verdict = vet(svg(style + circle + body))
    assert isinstance(verdict, Vetted)
    first, second = verdict.root[2:4]
    assert (first.get("fill"), first.get("stroke")) == ("red", "red")
    assert second.get("fill") == "inherit", "a definition in a circle is no value"


def test_caps_can_be_moved() -> None:
    code = svg("<g/>" * 20)
    assert isinstance(vet(code, RenderLimits(max_elements=21)), Vetted)
    refused = vet(code, RenderLimits(max_elements=20))
    assert isinstance(refused, Failure)
    assert refused.reason == "too_many_elements"
    with pytest.raises(UserError, match="max_depth"):
        RenderLimits(max_depth=0)


def test_mutated_documents_never_raise() -> None:
    rng = np.random.default_rng(7)
    seeds = [code for code, _ in REFUSED.values() if len(code) < 2_000]
    seeds += [svg(body) for body, _, _ in FLAGGED.values()]
    pieces = ["<", ">", "&", '"', "url(#a)", "var(--", "<use href='#a'/>", "]]>", "1e9", "\x01"]
    passed = 0
    for _ in range(1_000):
        code = list(seeds[rng.integers(len(seeds))])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(code) + 1))
            if rng.random() < 0.5:
                code[at : at + int(rng.integers(1, 9))] = []
            else:
                code.insert(at, pieces[rng.integers(len(pieces))])
        verdict = vet("".join(code))
        passed += isinstance(verdict, Vetted)
        assert isinstance(verdict, Vetted) or verdict.reason
    assert 0 < passed < 1_000
