"""The report's style sheet: light and dark, phone and print. Plots in files of their own take their colours from it."""

SERIES = 9
"""Colours of lines; with more lines than that they begin again, dashed."""

_LIGHT = """--ink: #1c2330; --soft: #5b6575; --line: #d7dce4; --paper: #ffffff; --panel: #f4f6f9; --pale: #8d96a5;
  --series-1: #1f5fbf; --series-2: #b4540a; --series-3: #2c7a3f; --series-4: #8e3fa8; --series-5: #b3202a;
  --series-6: #0f7f8c; --series-7: #7a6200; --series-8: #6b5344; --series-9: #c2318a; --chance: #77808f;"""
_DARK = """--ink: #e6e9ef; --soft: #a2acbb; --line: #3a4350; --paper: #14181f; --panel: #1d232c; --pale: #77818f;
  --series-1: #7db0ff; --series-2: #f0a15e; --series-3: #7fce92; --series-4: #d09cf0; --series-5: #ff8a8a;
  --series-6: #6fd3de; --series-7: #d8c25a; --series-8: #c9ad9a; --series-9: #f58cc6; --chance: #98a2b1;"""

COLOURS = (
    f":root {{ color-scheme: light dark; {_LIGHT} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}\n"
    f"@media print {{ :root {{ color-scheme: light; {_LIGHT} }} }}\n"
    "svg { font: 13px system-ui, sans-serif; background: var(--paper); }\n"
    "svg text { fill: var(--ink); } svg .tick { fill: var(--soft); } svg .axis { stroke: var(--line); }\n"
    "svg .line { fill: none; stroke-width: 2.2; } svg .band { opacity: .16; stroke: none; }\n"
    + "\n".join(
        f".line.{name} {{ stroke: var(--{name}); }} .band.{name}, .dot.{name} {{ fill: var(--{name}); }}"
        for name in (*(f"series-{n}" for n in range(1, SERIES + 1)), "chance")
    )
    + "\n"
)
"""Colours and what draws with them."""

CSS = (
    COLOURS
    + """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 78rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
a { color: var(--series-1); }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h2, h3, h4 { line-height: 1.25; } h3 { margin: 2rem 0 .5rem; } h4 { margin: 1.5rem 0 .3rem; }
p, li { max-width: 46rem; }
p.note, figcaption { color: var(--soft); font-size: .875rem; } figcaption b { color: var(--ink); font-weight: 600; }
aside { background: var(--panel); border-left: 4px solid var(--series-1); padding: .6rem 1rem; margin: 1rem 0;
  max-width: 50rem; }
nav ul { columns: 16rem; padding-left: 1.2rem; margin: .5rem 0; } nav li { break-inside: avoid; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .5rem 1.5rem; }
dl > .wide { grid-column: 1 / -1; } dt { color: var(--soft); font-size: .8rem; } dd { margin: 0; }
figure { margin: 1.2rem 0; }
figcaption { padding-bottom: .3rem; max-width: 46rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; min-width: min(100%, 30rem); font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  white-space: nowrap; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); max-width: 13rem;
  min-width: 8rem; white-space: normal; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; min-width: 4rem;
  max-width: 9rem; }
th.text { text-align: left; }
td.text { text-align: left; }
td.long { white-space: normal; min-width: 8rem; max-width: 24rem; overflow-wrap: anywhere; }
tbody th { font-weight: 600; } td small { display: block; color: var(--soft); font-size: .75rem; }
tr.grey, tr.grey small { color: var(--pale); font-style: italic; } tr.grey th { font-weight: 400; }
svg { width: 100%; max-width: 38rem; height: auto; display: block; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.plots figure { margin: 0; break-inside: avoid; }
.grid { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--card, 18rem)), 1fr)); }
.grid > figure { margin: 0; break-inside: avoid; }
.faces { display: grid; grid-template-columns: repeat(var(--n), minmax(5rem, 8rem)); gap: 2px; max-width: 100%;
  overflow-x: auto; }
.faces > div { font-size: .7rem; line-height: 1.2; color: var(--soft); }
.faces b { display: block; color: var(--ink); font-weight: 600; }
.faces img { width: 100%; aspect-ratio: 1; display: block; border-radius: 3px; }
.faces .gone { display: grid; place-items: center; aspect-ratio: 1; background: var(--panel); text-align: center; }
details > summary { cursor: pointer; font-weight: 600; margin: .8rem 0; }
@media print {
  body { max-width: none; font-size: 10pt; padding: 0; }
  .scroll { overflow: visible; } table { font-size: 8pt; } th, td { padding: .15rem .3rem; }
  .faces { overflow: visible; grid-template-columns: repeat(var(--n), minmax(0, 8rem)); font-size: 7pt; }
  th:first-child { position: static; } .plots { grid-template-columns: repeat(2, 1fr); }
  h2, h3, h4 { break-after: avoid; } figcaption { break-after: avoid; }
  aside, tr, svg, figcaption { break-inside: avoid; }
  details::details-content { content-visibility: visible; display: block; } nav { display: none; }
}
"""
)
