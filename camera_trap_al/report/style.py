"""How the page looks: on a screen, light or dark, and on paper."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1c2328; --soft: #5a6670; --paper: #fff; --tint: #f2f5f7; --line: #d5dce1;
  --accent: #0060a0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ec; --soft: #a3afb8; --paper: #15191c; --tint: #1f262b;
  --line: #39434b; --accent: #6cb8ec; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.page { display: grid; grid-template-columns: 13rem minmax(0, 60rem); gap: 2.5rem; max-width: 78rem; margin: 0 auto;
  padding: 1.5rem; }
nav { position: sticky; top: 1.5rem; align-self: start; font-size: .92rem; }
nav ol { list-style: none; margin: 0; padding: 0; border-left: 2px solid var(--line); }
nav a { display: block; padding: .2rem .8rem; color: var(--soft); text-decoration: none; }
nav a:hover, nav a:focus { color: var(--accent); text-decoration: underline; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 .6rem; }
p { margin: .4rem 0 .8rem; max-width: 44rem; }
.soft { color: var(--soft); font-size: .92rem; }
.advice { background: var(--tint); border-left: 4px solid var(--accent); padding: .7rem 1rem; max-width: none;
  border-radius: 0 6px 6px 0; }
section { padding: 1.4rem 0; border-top: 1px solid var(--line); }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tiles div { background: var(--tint); border-radius: 8px; padding: .7rem 1.1rem; flex: 1 1 8rem; }
.tiles dd { margin: 0; font-size: 1.5rem; font-weight: 600; line-height: 1.25; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.plot { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 8px; margin: .6rem 0; }
.scroll { overflow: auto; max-height: 34rem; border: 1px solid var(--line); border-radius: 8px; margin: .6rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; padding: .5rem .7rem; color: var(--soft); }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: middle; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; min-width: 4rem; }
thead th { position: sticky; top: 0; background: var(--tint); border-top: 0; overflow-wrap: normal; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.thumb { display: block; width: 128px; height: 96px; border-radius: 4px; }
.thumb.small { width: 80px; height: 60px; }
.none { background: var(--tint); color: var(--soft); font-size: .75rem; display: grid; place-items: center; }
.photos { list-style: none; padding: 0; margin: .6rem 0; display: grid; gap: 1rem .9rem;
  grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); }
.photos div { font-size: .8rem; line-height: 1.35; margin-top: .3rem; overflow-wrap: anywhere; }
.photos b { display: block; font-size: .86rem; }
.differs { color: #b34700; font-weight: 600; }
@media (prefers-color-scheme: dark) { .differs { color: #f0a35c; } }
@media (max-width: 56rem) { .page { display: block; padding: 1rem; } nav { position: static; margin: 1rem 0; }
  nav ol { display: flex; flex-wrap: wrap; border: 0; } nav a { padding: .15rem .8rem .15rem 0; } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --tint: #f4f4f4; --line: #bbb; }
  .page { display: block; max-width: none; padding: 0; } nav { display: none; }
  .scroll { max-height: none; overflow: visible; } thead th { position: static; }
  tr, .photos li, .plot, .tiles div { break-inside: avoid; } h2 { break-after: avoid; } body { font-size: 10pt; } }
"""
