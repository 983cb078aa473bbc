"""The rules that Gradio has no variable for; colours come from the theme, so light and dark are one set of rules."""

from __future__ import annotations

_PAGE = """
.gradio-container { max-width: 1120px !important; width: 100%; margin: 0 auto !important;
  --mm-good: #2c7a4b; --mm-warn: #8a5a00; --mm-bad: #b3372f; }
.dark .gradio-container, .gradio-container.dark, .dark { --mm-good: #7fd6a2; --mm-warn: #f0bd62; --mm-bad: #ff9d94; }
.gradio-container .html-container { padding: 0; }
.gradio-container footer { opacity: 1; }
.gradio-container footer .divider:last-child { display: none; }
@media (min-width: 820px) { .mm-sticky { position: sticky; top: 1rem; align-self: flex-start; } }
.gradio-container :focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }

.mm-head { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1rem; padding: .75rem 0 .25rem; }
.mm-head h1 { font-size: 1.75rem; font-weight: 700; letter-spacing: -.02em; margin: 0; color: var(--body-text-color); }
.mm-head p { margin: 0; flex: 1; min-width: 14rem; color: var(--body-text-color-subdued); }
.mm-theme { width: 2.2rem; height: 2.2rem; padding: .45rem; border: 1px solid var(--border-color-primary);
  border-radius: 50%; background: none; cursor: pointer; align-self: center; color: inherit; }
.mm-theme svg { width: 100%; height: 100%; fill: currentColor; }
.mm-theme circle { fill: none; stroke: currentColor; stroke-width: 2; }
.mm-step { font-size: 1rem; font-weight: 650; margin: .25rem 0 0; color: var(--body-text-color); }
.mm-sub { font-size: .9rem; font-weight: 650; margin: .25rem 0; color: var(--body-text-color); }
.mm-note { font-size: .85rem; color: var(--body-text-color-subdued); margin: .1rem 0; }
.mm-forecast { min-height: 1.3em; }
.mm-good { color: var(--mm-good); } .mm-warn { color: var(--mm-warn); } .mm-bad { color: var(--mm-bad); }
.mm-alert { padding: .7rem .9rem; border-radius: var(--radius-lg); border: 1px solid #d08a2a; color: inherit;
  background: color-mix(in srgb, #d08a2a 12%, transparent); }
"""

_FORM = """
.mm-strip { display: flex; flex-wrap: wrap; gap: .45rem; align-items: flex-start; }
.mm-strip button { padding: 0; border: 2px solid transparent; border-radius: var(--radius-lg); background: none;
  cursor: pointer; line-height: 0; overflow: hidden; transition: border-color .12s; }
.mm-strip img { width: 3.3rem; height: 3.3rem; object-fit: cover; border-radius: calc(var(--radius-lg) - 2px); }
.mm-strip button:hover { border-color: var(--color-accent); }
.mm-strip button[aria-pressed="true"] { border-color: var(--color-accent);
  box-shadow: 0 0 0 3px color-mix(in srgb, var(--color-accent) 35%, transparent); }
.mm-faces { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; }
.mm-faces button[aria-pressed="false"] img { opacity: .55; }
.mm-faces .mm-strip img { width: 5.5rem; height: 5.5rem; }
.mm-photo { margin-bottom: .6rem; }
.mm-checks { flex: 1; min-width: 11rem; font-size: .85rem; } .mm-checks p { margin: .1rem 0; }
.mm-remedies { margin: .1rem 0; padding-left: 1.1rem; list-style: disc; }
.mm-choose { font-size: .9rem; font-weight: 600; color: var(--mm-warn); margin: .1rem 0 .35rem; }
.mm-notes { min-height: 1.4rem; font-size: .85rem; } .mm-notes p { margin: .15rem 0; }
.mm-notes span { margin-right: .5rem; } .mm-count { color: var(--body-text-color-subdued); }
.mm-chips { display: flex; flex-wrap: wrap; gap: .4rem; }
.mm-chip { padding: .25rem .7rem; border: 1px solid var(--border-color-primary); border-radius: 1rem;
  background: var(--block-background-fill); color: inherit; font-size: .85rem; font-weight: 400;
  cursor: pointer; text-align: left; }
.mm-chip:hover { border-color: var(--color-accent); }
"""

_PROGRESS = """
.mm-status { min-height: 3.4rem; display: flex; flex-direction: column; justify-content: center; gap: .5rem; }
.mm-status p { margin: 0; display: flex; justify-content: space-between; gap: 1rem; }
.mm-status .mm-eta { color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.mm-track { height: .5rem; border-radius: 1rem; overflow: hidden; background: var(--border-color-primary); }
.mm-bar { height: 100%; border-radius: 1rem; background: var(--color-accent); transition: width .25s linear; }
.mm-bar.mm-busy { width: 30%; animation: mm-slide 1.4s ease-in-out infinite alternate; }
@keyframes mm-slide { from { margin-left: 0; } to { margin-left: 70%; } }
@media (prefers-reduced-motion: reduce) { .mm-bar.mm-busy { animation: none; width: 100%; opacity: .5; } }
"""

_RESULT = """
.mm-stage { position: relative; height: 24rem; max-height: 92vw; display: flex; align-items: center;
  justify-content: center; border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  background: var(--block-background-fill); overflow: hidden; }
.mm-stage > video, .mm-stage > img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.mm-empty p { color: var(--body-text-color-subdued); margin: 0; }
.mm-live img { filter: saturate(.9); }
.mm-tag { position: absolute; left: .6rem; bottom: .6rem; padding: .1rem .5rem; border-radius: 1rem; font-size: .75rem;
  background: rgb(0 0 0 / 65%); color: white; }
.mm-compare { display: grid; grid-template-columns: repeat(auto-fit, minmax(6rem, 1fr)); gap: .5rem; }
.mm-compare figure { margin: 0; padding: 3px; border-radius: var(--radius-lg); border: 2px solid transparent; }
.mm-compare figure.mm-chosen { border-color: var(--color-accent); }
.mm-compare video { width: 100%; border-radius: var(--radius-md); } .mm-compare figcaption { font-size: .85rem;
  text-align: center; }

.mm-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .5rem;
  margin: 0 !important; padding: 0 !important; list-style: none !important; }
.mm-cards li { position: relative; margin: 0; padding: 0; list-style: none; }
.mm-card { width: 100%; min-height: 3.4rem; display: flex; gap: .5rem; align-items: center; text-align: left;
  padding: .25rem; border: 2px solid var(--border-color-primary); border-radius: var(--radius-lg); cursor: pointer;
  background: var(--block-background-fill); color: inherit; font-size: .85rem; font-weight: 400; line-height: 1.25;
  overflow: hidden; }
.mm-card:hover, .mm-card[aria-pressed="true"] { border-color: var(--color-accent); }
.mm-card video, .mm-card img { width: 3rem; height: 3rem; object-fit: cover; border-radius: var(--radius-md);
  background: var(--border-color-primary); pointer-events: none; flex: none; }
.mm-card small { color: var(--body-text-color-subdued); }
.mm-whole { justify-content: center; }
.mm-again { width: 100%; font-weight: 400; margin-top: .2rem; font-size: .8rem; padding: .15rem; cursor: pointer;
  color: inherit; background: none; border: 1px solid var(--border-color-primary); border-radius: var(--radius-md); }
.mm-history { grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); }
.mm-history .mm-card { padding-right: 2rem; } .mm-stills { display: flex; gap: 2px; flex: none; }
.mm-remove { position: absolute; right: .3rem; top: .3rem; width: 1.6rem; height: 1.6rem; border: 0; cursor: pointer;
  border-radius: 50%; background: none; color: var(--body-text-color-subdued); font-size: 1.1rem; line-height: 1; }
.mm-remove:hover { color: var(--mm-bad); }

.mm-result { display: grid; gap: .6rem; }
.mm-likeness { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem; align-items: center; }
.mm-score { font-size: 2rem; font-weight: 700; font-variant-numeric: tabular-nums; line-height: 1; }
.mm-curve { width: 100%; height: 4rem; overflow: visible; cursor: pointer; }
.mm-curve polyline { fill: none; stroke: var(--color-accent); stroke-width: 2; vector-effect: non-scaling-stroke; }
.mm-curve circle { fill: var(--color-accent); } .mm-curve rect { fill: transparent; }
.mm-curve rect:hover { fill: color-mix(in srgb, var(--color-accent) 20%, transparent); }
.mm-curve line { stroke: var(--body-text-color-subdued); stroke-dasharray: 4 4; vector-effect: non-scaling-stroke; }
.mm-curve line.mm-playhead { stroke: var(--body-text-color); stroke-dasharray: none; opacity: .7; }
.mm-reading { margin: .2rem 0 0; } .mm-close, .mm-same { color: var(--mm-good); } .mm-none, .mm-unseen, .mm-some {
  color: var(--mm-warn); }
.mm-facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(6.5rem, 1fr)); gap: .5rem; margin: 0; }
.mm-facts div { display: flex; flex-direction: column; }
.mm-facts dt { font-size: .8rem; color: var(--body-text-color-subdued); }
.mm-facts dd { margin: 0; font-variant-numeric: tabular-nums; font-weight: 600; overflow-wrap: anywhere; }
.mm-links { display: flex; flex-wrap: wrap; gap: .5rem; }
.mm-link { flex: 1; min-width: 6.5rem; padding: .5rem .8rem; text-align: center; text-decoration: none !important;
  border: 1px solid var(--button-secondary-border-color); border-radius: var(--radius-lg); font-weight: 600;
  background: var(--button-secondary-background-fill); color: var(--body-text-color) !important; }
.mm-link:hover { border-color: var(--color-accent); }
"""

CSS = _PAGE + _FORM + _PROGRESS + _RESULT
