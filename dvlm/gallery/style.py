"""The style sheet of the page: dark text on a light ground, one accent colour, narrow screens too."""

STYLE = """
:root { --ink: #22272e; --muted: #626a73; --rule: #e2e0da; --paper: #f8f7f4; --card: #fff; --accent: #1f6f78; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Micro Hei", sans-serif; }
h1 { font-size: 1.7rem; font-weight: 650; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; font-weight: 650; margin: 2.75rem 0 .75rem; }
h3 { font-size: 1rem; font-weight: 650; margin: 0; }
p { margin: .35rem 0; max-width: 46rem; }
.lead, .note { color: var(--muted); }
.warn { color: var(--accent); font-weight: 650; }
.notice { border-left: 4px solid var(--accent); background: var(--card); padding: .75rem 1rem; margin: 1rem 0; }
.key { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; margin: 1.5rem 0; background: var(--rule);
  border: 1px solid var(--rule); border-radius: 8px; overflow: hidden; }
.key div { background: var(--card); padding: .8rem 1rem; }
.key b { display: block; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.key span { color: var(--muted); font-size: .875rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 0 2.5rem;
  align-items: start; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9375rem; }
th, td { padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
tbody th { min-width: 9.5rem; }
tbody th, tr > th:first-child { font-weight: 400; color: var(--muted); }
thead th, thead tr > th:first-child { color: var(--ink); font-weight: 600; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .5rem; }
svg { display: block; width: 100%; min-width: 54rem; }
svg text { font-size: 13px; fill: var(--muted); }
svg text.limit { fill: var(--ink); }
svg .bar { fill: var(--accent); }
svg .over { fill: var(--ink); }
svg .grid { stroke: var(--rule); }
svg .axis { stroke: var(--muted); }
svg line.limit { stroke: var(--ink); stroke-dasharray: 5 4; }
article { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 1rem 1.25rem 1.1rem;
  margin: 1rem 0; }
article header { display: flex; flex-wrap: wrap; gap: .3rem .9rem; align-items: baseline; margin-bottom: .6rem;
  font-size: .9375rem; }
.chip { background: var(--accent); color: #fff; border-radius: 99px; padding: 0 .65rem; font-size: .8125rem; }
.place { color: var(--muted); font-size: .8125rem; overflow-wrap: anywhere; flex-basis: 100%; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem;
  margin: .5rem 0 1rem; }
figure { margin: 0; }
figure img { display: block; width: 100%; max-height: 36rem; object-fit: contain; object-position: left top;
  cursor: zoom-in; }
figure input { position: absolute; opacity: 0; }
figure input:checked + img { position: fixed; inset: 0; z-index: 9; width: 100vw; height: 100vh; max-height: none;
  padding: 1rem; object-position: center; background: rgb(34 39 46 / .88); cursor: zoom-out; }
figure input:focus-visible + img { outline: 3px solid var(--accent); }
figcaption { font-size: .875rem; color: var(--muted); padding-top: .4rem; overflow-wrap: anywhere; }
figcaption strong { font-weight: 600; color: var(--ink); }
.events { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem; margin: .35rem 0; padding: 0; }
.events li { border: 1px solid var(--rule); border-radius: 4px; padding: 0 .45rem; color: var(--ink); }
details { border-top: 1px solid var(--rule); padding: .45rem 0; }
summary { cursor: pointer; color: var(--accent); font-size: .9375rem; }
pre { margin: .5rem 0 .25rem; padding: .75rem; background: var(--paper); border-left: 3px solid var(--rule);
  white-space: pre-wrap; overflow-wrap: anywhere; font: .8125rem/1.55 ui-monospace, "DejaVu Sans Mono", monospace; }
pre.answer { border-left-color: var(--accent); }
@media (max-width: 40rem) {
  body { padding: 1.25rem .85rem 3rem; }
  article { padding: .8rem .85rem; }
  .key { grid-template-columns: 1fr 1fr; }
}
"""
