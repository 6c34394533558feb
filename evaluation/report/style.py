"""The style sheet of the web page: light and dark, wide and narrow, and nothing fetched."""

from __future__ import annotations

_LIGHT = """
  --page: #fff; --card: #f7f8fa; --line: #e1e4ea; --text: #1c2330; --quiet: #5b6577; --bar: #8fa3c0;
  --subject: #1380b0;
  --tint: #e4f1f7; --mark: #d5efdd;
  --g0: #4477aa; --g1: #ee6677; --g2: #228833; --g3: #ccaa22; --g4: #44aacc; --g5: #aa3377; --g6: #ee8866;
  --g7: #44bb99; --g8: #997700; --g9: #a6a6a6;
"""
_DARK = """
  --page: #12161d; --card: #1a202a; --line: #2d3645; --text: #e4e8ef; --quiet: #9aa6b8; --bar: #52657f;
  --subject: #4fb3dd; --tint: #17303d; --mark: #1d4a31;
  --g0: #77aadd; --g1: #ff8899; --g2: #55bb66; --g3: #ddcc66; --g4: #77ddee; --g5: #dd77bb; --g6: #ffaa88;
  --g7: #66ddbb; --g8: #ccaa44; --g9: #777f8c;
"""
_PLACES = range(10)

STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box }}
body {{ font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--text); background: var(--page);
  max-width: 84rem; margin: 0 auto; padding: 0 1.25rem 4rem }}
header {{ padding: 2.5rem 0 .5rem }} h1 {{ font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -.01em }}
header p {{ color: var(--quiet); margin: .4rem 0 0 }}
h2 {{ font-size: 1.3rem; margin: 3rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line) }}
section {{ scroll-margin-top: 2rem }}
h3 {{ font-size: 1rem; margin: 1.75rem 0 .5rem }} section > p {{ max-width: 48rem; color: var(--quiet) }}
a {{ color: var(--subject); text-decoration: none }} a:hover {{ text-decoration: underline }}
nav {{ position: sticky; top: 0; z-index: 2; background: var(--page); border-bottom: 1px solid var(--line);
  padding: .6rem 0; display: flex; gap: 1.1rem; overflow-x: auto; white-space: nowrap }}
.tiles, .figures, .cases {{ display: grid; gap: 1rem }}
.tiles {{ grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); margin-top: 1.5rem }}
.figures {{ grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)) }}
.cases {{ grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)) }}
.tile, figure, .case {{ background: var(--card); border: 1px solid var(--line); border-radius: .6rem; margin: 0 }}
.tile {{ padding: .8rem 1rem }} .tile span {{ display: block; color: var(--quiet); font-size: .85rem }}
.tile b {{ display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums }}
.note {{ border-left: 3px solid var(--subject); padding: .15rem .8rem; margin: .75rem 0; color: var(--text) }}
figure {{ padding: 1rem }} figcaption {{ font-weight: 600; font-size: .92rem; margin-bottom: .75rem }}
.bar {{ display: grid; grid-template-columns: 8.2rem 1fr 3rem; align-items: center; gap: .6rem; font-size: .85rem;
  line-height: 1; padding: .16rem 0 }}
.bar .name {{ text-align: right; color: var(--quiet); overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  line-height: 1.3 }}
.bar .value {{ font-variant-numeric: tabular-nums }} .bar.subject .name, .bar.subject .value {{ color: var(--text);
  font-weight: 650 }}
.track {{ position: relative; height: 1rem; display: block }}
.track i {{ position: absolute; inset: 0 auto 0 0; background: var(--bar); border-radius: 2px }}
.subject .track i {{ background: var(--subject) }}
.track b {{ position: absolute; top: 50%; height: 0; border-top: 1.5px solid var(--text) }}
.track b::before, .track b::after {{ content: ""; position: absolute; top: -.3rem; height: .5rem;
  border-left: 1.5px solid var(--text) }} .track b::after {{ right: 0 }}
svg {{ display: block; width: 100%; height: auto; font-size: 12px }}
svg text {{ fill: var(--quiet); paint-order: stroke; stroke: var(--card); stroke-width: 3px }}
svg .grid {{ stroke: var(--line) }} svg .line {{ stroke: var(--subject); fill: none; stroke-width: 2 }}
svg .mean {{ fill: var(--subject) }} svg .run {{ fill: var(--quiet); fill-opacity: .5 }}
{" ".join(f"svg .g{place} {{ fill: var(--g{place}); fill-opacity: .8 }}" for place in _PLACES)}
.wide svg {{ max-width: 44rem; margin: 0 auto }}
.legend {{ display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; margin: .75rem 0 0;
  font-size: .85rem }}
.legend li::before {{ content: ""; display: inline-block; width: .7rem; height: .7rem; border-radius: 50%;
  margin-right: .4rem; background: currentColor }}
{" ".join(f".legend .g{place}::before {{ background: var(--g{place}) }}" for place in _PLACES)}
.table {{ overflow-x: auto; border: 1px solid var(--line); border-radius: .6rem }}
table {{ border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums }}
th, td {{ padding: .38rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }}
tbody tr:last-child > * {{ border-bottom: 0 }}
thead th {{ color: var(--quiet); font-weight: 600; background: var(--card) }}
th:first-child {{ text-align: left; position: sticky; left: 0; background: var(--page); font-weight: 500 }}
thead th:first-child {{ background: var(--card) }}
tr.subject > * {{ background: var(--tint) }} tr.subject th {{ font-weight: 650 }}
td small {{ color: var(--quiet); font-size: .85em }} td.best {{ font-weight: 650 }}
td.text, th.text {{ text-align: left }}
summary {{ cursor: pointer; font-weight: 600; margin: 1.25rem 0 .5rem }}
.case {{ padding: .9rem 1rem }} .case h4 {{ margin: 0; font-size: 1rem }}
.case p {{ margin: .15rem 0 .6rem; color: var(--quiet); font-size: .85rem }}
.answers {{ display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; font-size: .85rem; line-height: 1.4 }}
.answers h5 {{ margin: 0 0 .3rem; font-size: .8rem; color: var(--quiet); font-weight: 600 }}
.answers ol {{ margin: 0; padding-left: 1.2rem }} .answers li {{ margin: .2rem 0; overflow-wrap: anywhere }}
mark {{ background: var(--mark); color: inherit; border-radius: 3px; padding: 0 .15rem }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0; font-size: .9rem }}
dt {{ color: var(--quiet) }} dd {{ margin: 0; overflow-wrap: anywhere }}
@media (max-width: 34rem) {{
  .bar {{ grid-template-columns: 7.3rem 1fr 2.5rem; font-size: .78rem }} .answers, dl {{ grid-template-columns: 1fr }}
  dd {{ margin-bottom: .5rem }} h1 {{ font-size: 1.5rem }}
}}
@media print {{ nav {{ display: none }} figure, .case, .tile {{ break-inside: avoid }} }}
"""
