from __future__ import annotations

import re
import time
from xml.sax.saxutils import escape

import pytest

from benchmarks.guard_fuzz import EscapeError, check_output, fuzz
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
    "many rules": (svg(f"<style>{'*{fill:red}' * 2_900}</style>" + "<g/>" * 2_000), "too_costly"),
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
        ("foreign_object_dropped",),
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


def test_mutated_documents_keep_every_promise() -> None:
    tally = fuzz(1_000, seed=7)
    assert tally.escaped == []
    assert sum(tally.verdicts.values()) == 1_000
    assert 100 < tally.verdicts["passes"] < 900
    assert len(tally.verdicts) > 10


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ('<script xmlns="http://www.w3.org/2000/svg"/>', "script"),
        ('<rect onload="x"/>', "onload"),
        ('<image href="#a"/>', "image"),
        ('<use href="http://x/#a"/>', "href"),
        ('<rect fill="u\\72 l(//x)"/>', "refers elsewhere"),
        ("<style>@import 'x';</style>", "at-rule"),
        ('<rect style="fill:url(/**/http://x)"/>', "refers elsewhere"),
        ('<rect width="1e9"/>', "1e9"),
        ("<?a b?>", "<?"),
        ("<g>" * 70 + "</g>" * 70, "levels"),
    ],
)
def test_the_fuzzer_sees_what_should_not_have_stayed(data: str, problem: str) -> None:
    with pytest.raises(EscapeError, match=re.escape(problem)):
        check_output(svg(data).encode(), RenderLimits())
    check_output(svg("<rect fill='url(#a)'/>").encode(), RenderLimits())


# What obfuscates a reference -> what may be left of it.
DISGUISES = {
    "escape": "u\\72l(http://127.0.0.1:9/a)",
    "escape of everything": "\\75\\72\\6c(http://127.0.0.1:9/a)",
    "comment": "url(/**/http://127.0.0.1:9/a)",
    "capitals": "URL('http://127.0.0.1:9/a')",
    "white space": "url(\n\t 'http://127.0.0.1:9/a' )",
    "quote in quotes": 'url("http://127.0.0.1:9/\'a")',
    "other function": "image-set('http://127.0.0.1:9/a' 1x)",
    "unclosed": "url(http://127.0.0.1:9/a",
    "data": "url(data:image/svg+xml;base64,PHN2Zz4=)",
    "string with a semicolon": "url('a;b:http://127.0.0.1:9/a')",
}


@pytest.mark.parametrize("name", DISGUISES)
@pytest.mark.parametrize("place", ["attribute", "style", "sheet", "CDATA", "variable", "entity"])
def test_no_spelling_gets_a_reference_past(name: str, place: str) -> None:
    value = DISGUISES[name]
    quoted = escape(value, {'"': "&quot;"})
    body = {
        "attribute": f'<rect fill="{quoted}"/>',
        "style": f'<rect style="stroke:red;fill:{quoted};opacity:.5"/>',
        "sheet": f"<style>rect{{fill:{quoted};opacity:.5}}</style><rect/>",
        "CDATA": f"<style><![CDATA[rect{{fill:{value};opacity:.5}}]]></style><rect/>",
        "variable": f"<style>svg{{--a:{quoted}}} rect{{fill:var(--a)}}</style><rect/>",
        "entity": '<rect fill="' + "".join(f"&#{ord(letter)};" for letter in value) + '"/>',
    }[place]
    verdict = vet(svg(body))
    assert isinstance(verdict, Vetted)
    left = verdict.to_bytes()
    check_output(left, RenderLimits())
    assert b"127.0.0.1" not in left
    assert b"base64" not in left
    assert {"external_reference_dropped", "css_dropped"} & set(verdict.flags)


@pytest.mark.parametrize(
    ("sheet", "kept"),
    [
        ("rect{fill:red}", "rect{fill:red}"),
        ("/* a */ .a , #b > c{ fill : red ; cursor:pointer }", ".a,#b > c{fill:red}"),
        ("rect{fill:url( '#a' ) red}", "rect{fill:url(#a) red}"),
        ("\\72 ect{f\\69ll:r\\65 d}", "rect{fill:red}"),
        ("rect:hover{fill:red}", None),
        ("a:hover,rect{fill:red}", "rect{fill:red}"),
        ("@media print{rect{fill:red}} g{fill:red}", "g{fill:red}"),
        ("text{font-family:'A B', Arial}", "text{font-family:'A B', Arial}"),
        ('text[x="1"]:nth-child(2n + 1){fill:red}', 'text[x="1"]:nth-child(2n + 1){fill:red}'),
        ("use{href:#a} rect{d:path('M0 0')}", None),
        (".1a{fill:red}", None),
    ],
)
def test_style_sheets_keep_what_draws(sheet: str, kept: str | None) -> None:
    verdict = vet(svg(f"<style>{escape(sheet)}</style>"))
    assert isinstance(verdict, Vetted)
    assert verdict.root[0].text == kept


SHADOW = '<filter id="f"><feDropShadow dx="2" dy="2" stdDeviation="3"/></filter>'


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        (SHADOW + '<rect width="8" height="8" filter="url(#f)"/>' * 40, True),
        (SHADOW + '<rect width="100" height="100" filter="url(#f)"/>' * 40, False),
        (
            SHADOW
            + '<g transform="scale(20)"><rect width="8" height="8" filter="url(#f)"/></g>' * 40,
            False,
        ),
        (f"{SHADOW}<style>.s{{filter:url(#f)}}</style>" + '<g class="s"/>' * 4, True),
        (f"{SHADOW}<style>.s{{filter:url(#f)}}</style>" + '<g class="s"/>' * 40, False),
        ('<rect width="99" height="99" style="filter:blur(3px)"/>' * 3, True),
        ('<rect width="99" height="99" style="filter:blur(3px)"/>' * 30, False),
        ('<path d="M0 0L1000 1000" stroke-dasharray="5 5"/>' * 50, True),
        ('<path d="M0 0L1000000 1000000" stroke-dasharray=".01"/>', False),
        ("<style>.a .b rect{fill:red}</style>" + "<g><rect/></g>" * 100, True),
        (
            "<style>" + "g " * 12 + "rect{fill:red}</style>" + "<g>" * 40 + "<rect/>" + "</g>" * 40,
            False,
        ),
    ],
)
def test_filters_dashes_and_selectors_are_counted(body: str, passes: bool) -> None:
    verdict = vet(svg(body))
    if passes:
        assert isinstance(verdict, Vetted), verdict.detail
    else:
        assert isinstance(verdict, Failure)
        assert verdict.reason == "too_costly"


def test_what_refers_to_something_dropped_goes_too() -> None:
    verdict = vet(svg('<use id="a" href="#b"/><use id="b" href="#c"/><use href="http://x/"/>'))
    assert isinstance(verdict, Vetted)
    assert len(verdict.root) == 0
    assert "dangling_reference" in verdict.flags


def test_the_first_of_equal_ids_is_meant() -> None:
    verdict = vet(svg('<rect id="a"/><circle id="a"/><use href="#a"/>'))
    assert isinstance(verdict, Vetted)
    assert [element.get("id") for element in verdict.root] == ["a", None, None]
    assert verdict.flags == ("duplicate_id",)


@pytest.mark.parametrize(
    "value",
    [
        *("0" * 30_000, "0" * 30_000 + "!", "-" * 30_000, "1rem" * 8_000, "url(" * 8_000),
        *("/*" * 15_000, "é" * 30_000 + "(", "(" * 30_000, "opacity:" + "0" * 30_000),
        *("--a" * 10_000, "rgb(" * 8_000, " " * 30_000 + "x", "'\"" * 15_000, "\\" * 30_000),
    ],
)
def test_the_time_to_look_grows_with_the_length_only(value: str) -> None:
    quoted = escape(value, {'"': "&quot;"})
    start = time.process_time()
    vet(svg(f'<rect style="fill:{quoted}" fill="{quoted}" width="{quoted}"/>'))
    vet(svg(f"<style>rect{{fill:{quoted}}} {quoted}</style><text>1rem var(--a)</text>"))
    vet(f'<svg width="{quoted}" viewBox="{quoted}"><rect fill="var({quoted})"/></svg>')
    vet(f"<!DOCTYPE {value} {svg('')}")
    assert time.process_time() - start < 1.0
