"""Hostile documents that are too large to keep as files."""

from __future__ import annotations

import gzip

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 120" width="200" height="120">'
RECT = '<rect width="9" height="9" fill="red"/>'


def built() -> dict[str, bytes]:
    """The documents by name; names as those of the files, without a suffix."""
    made = {
        "bulk-blank": HEAD + " " * 300_000 + "</svg>",
        "bulk-text": HEAD + f'<text y="20">{"word " * 40_000}</text></svg>',
        "bulk-many-texts": HEAD + '<text y="9">lorem ipsum dolor</text>' * 1_500 + "</svg>",
        "bulk-path": HEAD + f'<path d="M0 0{"L1 1" * 40_000}"/></svg>',
        "bulk-many-paths": HEAD + f'<path d="M0 0{"L9 9L1 5" * 250}"/>' * 100 + "</svg>",
        "bulk-elements": HEAD + "<g/>" * 60_000 + "</svg>",
        "bulk-guests": HEAD + "<x:a/>" * 30_000 + "</svg>",
        "bulk-unknown-elements": HEAD + "<bar/>" * 30_000 + RECT + "</svg>",
        "bulk-image": HEAD + f'<image href="data:image/png;base64,{"A" * 200_000}"/>{RECT}</svg>',
        "bulk-small-images": HEAD
        + f'<image href="data:image/png;base64,{"A" * 9_000}"/>' * 20
        + f"{RECT}</svg>",
        "bulk-attributes": HEAD
        + "<rect "
        + " ".join(f'data-a{i}="{i}"' for i in range(14_000))
        + "/></svg>",
        "bulk-namespaces": HEAD
        + "<rect "
        + " ".join(f'xmlns:n{i}="http://127.0.0.1:9/{i}"' for i in range(4_500))
        + "/></svg>",
        "bulk-comments": HEAD + f"<!--{'x' * 2_000}-->" * 100 + f"{RECT}</svg>",
        "bulk-instructions": f'<?xml-stylesheet href="a.css"?>{HEAD}'
        + "<?php x?>" * 9_000
        + f"{RECT}</svg>",
        "bulk-nesting": HEAD + "<g>" * 60_000,
        "bulk-doctypes": "<!DOCTYPE" * 28_000 + HEAD,
        "bulk-overdraw": HEAD
        + '<circle cx="100" cy="60" r="200" fill="red" fill-opacity=".5" stroke="blue"/>' * 3_000
        + "</svg>",
        "bulk-uses": HEAD
        + '<g id="a"><rect width="1" height="1"/></g>'
        + '<use href="#a"/>' * 4_500
        + "</svg>",
        "css-many-rules": HEAD
        + f"<style>{'*{fill:red}' * 2_900}</style>"
        + "<g/>" * 2_000
        + "</svg>",
        "css-large": HEAD + f"<style>{'a{fill:red}' * 4_000}</style></svg>",
        "css-many-selectors": HEAD
        + f"<style>{'rect:nth-child(2n+1),' * 1_400}rect{{fill:red}}</style>"
        + RECT * 2_000
        + "</svg>",
        "css-styles-on-all": HEAD
        + '<rect style="fill:u\\72l(#a);stroke:/**/red;opacity:50%" width="1"/>' * 2_500
        + "</svg>",
        "css-long-name": HEAD + f'<text font-family="{"é" * 30_000}(" y="9">a</text></svg>',
        "css-long-digits": HEAD + f'<rect style="opacity:{"1" * 30_000}" width="1rem"/></svg>',
    }
    files = {name: text.encode() for name, text in made.items()}
    whole = (HEAD + RECT * 40 + "</svg>").encode()
    files |= {
        "packed-zeros": gzip.compress(HEAD.encode() + b" " * 30_000_000, 9),
        "packed-elements": gzip.compress((HEAD + "<g/>" * 400_000).encode(), 9),
        "packed-twice": gzip.compress(gzip.compress(HEAD.encode() + b" " * 20_000_000, 9), 9),
        "packed-cut": gzip.compress(whole)[:60],
        "packed-broken": b"\x1f\x8b\x08\x00" + bytes(range(256)) * 20,
        "packed-harmless": gzip.compress(whole),
    }
    return files
