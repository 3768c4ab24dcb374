"""The report's style sheet: light and dark, phone and print."""

CSS = """
:root {
  color-scheme: light dark;
  --ink: #1c2330; --soft: #5b6575; --line: #d7dce4; --paper: #ffffff; --panel: #f4f6f9;
  --series-1: #1f5fbf; --series-2: #b4540a; --series-3: #2c7a3f; --chance: #77808f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ef; --soft: #a2acbb; --line: #3a4350; --paper: #14181f; --panel: #1d232c;
    --series-1: #7db0ff; --series-2: #f0a15e; --series-3: #7fce92; --chance: #98a2b1;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.5rem 0 .5rem; }
p.note, figcaption, caption { color: var(--soft); font-size: .875rem; }
aside { background: var(--panel); border-left: 4px solid var(--series-1); padding: .6rem 1rem; margin: 1rem 0; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: .5rem 1.5rem; }
dt { color: var(--soft); font-size: .8rem; } dd { margin: 0; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top;
  white-space: nowrap; }
th:first-child { text-align: left; } thead th { color: var(--soft); font-weight: 600; }
tbody th { font-weight: 600; } td small { display: block; color: var(--soft); }
figure { margin: 1rem 0; }
svg { width: 100%; max-width: 40rem; height: auto; display: block; font: 13px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .axis { stroke: var(--line); stroke-width: 1; } svg .tick { fill: var(--soft); }
svg .line { fill: none; stroke-width: 2.5; } svg .band { opacity: .18; } svg .chance { stroke-dasharray: 5 4; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: 1rem; }
.faces { display: grid; grid-template-columns: repeat(3, 1fr); gap: 2px; }
.faces img { width: 100%; aspect-ratio: 1; display: block; border-radius: 3px; }
.faces span { display: grid; place-items: center; aspect-ratio: 1; background: var(--panel); color: var(--soft);
  font-size: .75rem; text-align: center; }
.grid figure { margin: 0; break-inside: avoid; }
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --panel: #f2f2f2;
    --series-1: #1f5fbf; --series-2: #b4540a; --series-3: #2c7a3f; --chance: #666; }
  body { max-width: none; font-size: 10pt; padding: 0; }
  .scroll { overflow: visible; } table { font-size: 8pt; } th, td { padding: .15rem .3rem; }
  .grid { grid-template-columns: repeat(3, 1fr); } h2, h3, aside, tr, svg { break-inside: avoid; break-after: auto; }
  h2, h3 { break-after: avoid; }
}
"""
